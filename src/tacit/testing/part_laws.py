"""Laws of every part: it is a frozen value, and the value is the configuration."""

import tomllib

import msgspec
import tomli_w

from tacit.core.errors import ConfigError
from tacit.core.part import Part, decode, encode, registry


def law_it_survives_a_file(part: Part) -> None:
    """Check that what is written to TOML and read again is the same value."""
    again = decode(type(part), tomllib.loads(tomli_w.dumps(encode(part))))
    assert again == part, f"{part} became {again}"


def law_it_is_registered_under_its_tag(part: Part) -> None:
    """Check that its tag leads back to its class."""
    assert registry()[str(part.__struct_config__.tag)] is type(part)


def law_it_is_frozen(part: Part) -> None:
    """Check that no field can be changed."""
    for field in msgspec.structs.fields(part):
        try:
            setattr(part, field.name, None)
        except AttributeError:
            continue
        raise AssertionError(f"{field.name} of {part} can be changed")


def law_it_refuses_unknown_fields(part: Part) -> None:
    """Check that a setting it does not know is an error that names it."""
    what = ""
    try:
        decode(type(part), {**encode(part), "no_such_setting": 1})
    except ConfigError as error:
        what = error.what
    assert "no_such_setting" in what, f"{type(part).__name__} swallowed an unknown setting"
