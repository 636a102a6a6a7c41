"""The example of a secure sum learns as well as the one whose updates everybody sees."""

from pathlib import Path

from msgspec.structs import replace

import tacit

EXAMPLES = Path(__file__).parents[2] / "examples"
ROUNDS = 12


def run(name: str, folder: Path, *, real_masks: bool = False) -> tacit.Result:
    """Run the beginning of an example."""
    loaded = tacit.load_job(EXAMPLES / f"{name}.py")
    assert loaded.population is not None
    job = replace(loaded.job, rounds=ROUNDS)
    return tacit.run(job, loaded.population, folder=folder, executor="rules", real_masks=real_masks)


def test_the_secure_example_learns_like_the_plain_one(tmp_path: Path) -> None:
    plain, secure = (run(name, tmp_path / name) for name in ("digits", "digits_secure"))
    masked = run("digits_secure", tmp_path / "masked", real_masks=True)
    assert plain.metrics.central["accuracy"] > 0.8
    assert abs(secure.metrics.central["accuracy"] - plain.metrics.central["accuracy"]) < 0.03
    assert secure.info.model_sha256 == masked.info.model_sha256 != plain.info.model_sha256
