"""The data sets, on their real files."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tacit.core.errors import DataError
from tacit.core.part import decode, encode, parts
from tacit.data import (
    IID,
    Shards,
    Source,
    Split,
    breast_cancer,
    credit_default,
    digits,
    heart_disease,
    mnist,
    shakespeare,
    sms,
)
from tacit.data.sources import credit, heart
from tacit.data.sources.mnist import parse_idx
from tacit.data.sources.shakespeare import ALPHABET, IGNORED, speeches
from tacit.data.sources.sms import FIRST_WORD, START, UNKNOWN, Messages


@pytest.mark.parametrize(
    "source",
    [digits(), breast_cancer(), mnist(flat=True), heart_disease(), credit_default(), shakespeare(), sms()],
)
def test_a_source_survives_its_file(source: Source) -> None:
    assert decode(Source, encode(source)) == source
    assert isinstance(source, Source)
    assert str(encode(source)["type"]) in parts(Source)


def test_digits_need_neither_scikit_learn_nor_torch() -> None:
    code = (
        "import sys, tacit.data as d;"
        "d.digits().split(d.Dirichlet(alpha=0.3), clients=100).open();"
        "assert not {'sklearn', 'torch'} & set(sys.modules), 'imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_digits_are_scikit_learns() -> None:
    from sklearn.datasets import load_digits

    table, expected = digits().load(Path()), load_digits()
    assert np.array_equal(table.inputs[0], (expected.data / 16).astype(np.float32))
    assert np.array_equal(table.target, expected.target)


def test_breast_cancer_is_scikit_learns() -> None:
    from sklearn.datasets import load_breast_cancer

    table, expected = breast_cancer().load(Path()), load_breast_cancer()
    assert np.array_equal(table.inputs[0], expected.data.astype(np.float32))
    assert np.array_equal(table.target, expected.target)


def test_a_scikit_learn_without_its_data_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"T206.*digits"):
        digits().load(tmp_path)


def test_mnist_has_its_images_and_its_official_test_set(data_folder: Path) -> None:
    population = mnist().split(Shards(), clients=100, holdout=0.0).open(data_folder)
    examples = population.train(0)
    assert population.sizes.tolist() == [600] * 100
    assert examples.inputs[0].shape == (600, 1, 28, 28)
    assert examples.inputs[0].dtype == np.float32
    assert 0 <= examples.inputs[0].min() < examples.inputs[0].max() == 1
    assert examples.target.dtype == np.int64
    assert population.test is not None
    assert len(population.test) == 10_000
    assert np.bincount(population.test.target).tolist() == [
        980,
        1135,
        1032,
        1010,
        982,
        892,
        958,
        1028,
        974,
        1009,
    ]
    assert (
        population.summary().counts.sum(axis=0)
        == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    ).all()


def test_flat_mnist_has_rows(data_folder: Path) -> None:
    assert mnist(flat=True).load(data_folder).inputs[0].shape == (60_000, 784)
    assert mnist().load(data_folder).inputs[0].dtype == np.uint8


@pytest.mark.parametrize(
    "content", [b"", b"\0\0\x08", b"\0\0\x0d\1\0\0\0\0", b"\0\0\x08\1\0\0", b"\0\0\x08\1\0\0\0\2x"]
)
def test_damaged_idx_files_are_refused(content: bytes) -> None:
    with pytest.raises(DataError, match=r"T208"):
        parse_idx(content, "file")


def test_heart_disease_has_four_hospitals(data_folder: Path) -> None:
    population = heart_disease().split(test=0, holdout=0).open(data_folder)
    assert list(population.ids) == ["cleveland", "hungarian", "switzerland", "va"]
    assert population.sizes.tolist() == [303, 261, 46, 130]
    x, y = population.train(0).inputs[0], population.train(0).target
    assert x.shape == (303, len(heart.FEATURES)) == (303, 13)
    # The file's first line: 63.0,1.0,1.0,145.0,233.0,1.0,2.0,150.0,0.0,2.3,3.0,0.0,6.0,0
    assert x[0] == pytest.approx([63, 1, 145, 233, 1, 150, 0, 2.3, 0, 0, 0, 0, 1])
    assert y[:4].tolist() == [0, 1, 1, 0]
    assert y.sum() == 139


def test_credit_has_five_banks_with_falling_default_rates(data_folder: Path) -> None:
    population = credit_default().split(test=0, holdout=0).open(data_folder)
    summary = population.summary()
    assert population.sizes.tolist() == [7676, 8401, 4301, 4799, 4823]
    assert summary.counts.sum(axis=0).tolist() == [23_364, 6_636]
    rates = summary.counts[:, 1] / summary.sizes
    assert rates == pytest.approx([0.318, 0.224, 0.209, 0.147, 0.147], abs=0.001)
    assert population.train(0).inputs[0].shape == (7676, len(credit.FEATURES)) == (7676, 23)
    assert population.train(0).inputs[0][0, :5].tolist() == [20_000, 2, 2, 1, 24]


def test_shakespeare_has_613_roles(data_folder: Path) -> None:
    table = shakespeare().load(data_folder)
    assert len(np.unique(table.groups["role"])) == 613
    x, y = table.inputs[0], table.target
    assert x.shape == y.shape == (len(table), 80)
    assert 3_800_000 < (y != IGNORED).sum() < 3_900_000
    assert x.max() < len(ALPHABET) == len(set(ALPHABET)) == 74
    assert np.array_equal(x[0, 1:], y[0, :-1])
    ophelia = x[table.groups["role"] == "hamlet/OPHELIA"]
    assert "".join(ALPHABET[code] for code in ophelia[0]).startswith("Do you doubt that?\n")
    assert not np.char.startswith(table.groups["role"], "hamlet/First").any()


def test_speeches_lose_directions_and_page_titles_and_join_long_names() -> None:
    play = (
        "\tTHE PLAY\n\nANN\ta lady.\n\n\tTHE PLAY\n\nACT I\n\nSCENE I\tA wood.\n\n"
        "\t[Enter ANN,\n\tand DON PEDRO]\n\n"
        "ANN\tHo! [Aside] Who's\n\tthere?\n\n\t[Exit]\n\n\tTHE PLAY\n\nACT II\n\nSCENE I\tA room.\n\n"
        "DON\nPEDRO\tI.\n\nFirst Lord\tNot me.\n\nBOB\n\nANN\t|\n\t|  Come, [unclosed\n"
    )
    assert speeches(play) == {"ANN": "Ho! Who's\nthere?\nCome,", "DON PEDRO": "I."}
    assert speeches("no play at all") == {}


def test_a_role_that_nobody_plays_is_refused(data_folder: Path) -> None:
    with pytest.raises(DataError, match=r"T202"):
        shakespeare(min_characters=10_000_000).load(data_folder)


def test_sms_has_134_senders_and_opens_from_its_cache_the_second_time(
    data_folder: Path, own_cache: Path
) -> None:
    first = sms().load(data_folder)
    assert [path.suffix for path in (own_cache / "parsed").iterdir()] == [".npz"]
    population = sms().split(holdout=0).open(data_folder)
    assert len(population) == 134
    assert first.test is not None
    assert len(first) == 43_605 - 254  # messages without a word
    assert len(first.test) == 10_951 - 62
    x, y = first.inputs[0], first.target
    assert x.shape == y.shape == (len(first), 20)
    assert (x[:, 0] == START).all()
    assert x.max() == y.max() == 5002
    assert 0.9 < (x[:, 1:][x[:, 1:] > 0] != UNKNOWN).mean() < 0.95
    assert set(np.unique(first.groups["sender"])) == set(population.ids)
    counts = np.bincount(y[y >= 0])
    assert counts[FIRST_WORD] == counts.max()


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04", b"nonsense"])
def test_a_damaged_cache_is_made_again(data_folder: Path, own_cache: Path, damage: bytes) -> None:
    sms().load(data_folder)
    (cached,) = (own_cache / "parsed").iterdir()
    cached.write_bytes(damage)
    assert len(sms(min_messages=1000).load(data_folder)) > 0
    assert cached.stat().st_size > 100_000


def test_a_cache_that_cannot_be_written_is_done_without(data_folder: Path, own_cache: Path) -> None:
    own_cache.write_text("a file where the folder should be")
    assert len(sms(min_messages=1000).load(data_folder)) > 0


def corpus(*messages: tuple[str, str]) -> Messages:
    body = "".join(
        f"<message><text>{text}</text><source><userProfile><userID>{sender}</userID></userProfile></source></message>"
        for sender, text in messages
    )
    return Messages.parse(f"<smsCorpus>{body}</smsCorpus>".encode())


def test_messages_become_rows_of_tokens() -> None:
    messages = corpus(("a", "Go go GO now"), ("b", "it's now?"), ("a", ""), ("a", "now rare"))
    everyone = np.ones(4, bool)
    tokens = messages.tokens(everyone, vocabulary=2)
    table = messages.table(tokens, everyone, length=3)
    go, now = FIRST_WORD, FIRST_WORD + 1
    assert table.inputs[0].tolist() == [[1, go, go], [1, 2, 0], [1, 0, 0], [1, now, 0]]
    assert table.target.tolist() == [[go, go, go], [-100, now, -100], [-100] * 3, [now, -100, -100]]
    assert messages.last_fifth().tolist() == [False, True, False, True]
    assert corpus(*[("a", "x")] * 10).last_fifth().tolist() == [False] * 8 + [True] * 2


def test_the_vocabulary_is_counted_over_training_messages_alone() -> None:
    messages = corpus(("a", "one"), ("a", "two two"))
    assert messages.tokens(np.array([True, False]), vocabulary=10).tolist() == [FIRST_WORD, UNKNOWN, UNKNOWN]


def test_senders_who_sent_little_are_left_out() -> None:
    messages = corpus(("a", "one two"), ("b", "three"), ("a", "four"))
    kept = messages.of_senders(2)
    assert kept.senders.tolist() == ["a", "a"]
    assert kept.lengths.tolist() == [2, 1]
    with pytest.raises(DataError, match=r"T202"):
        messages.of_senders(3)
    with pytest.raises(DataError, match=r"T208"):
        Messages.parse(b"<smsCorpus>")


def test_a_population_from_settings_alone(data_folder: Path) -> None:
    written = {"source": {"type": "heart_disease"}, "by": {"type": "iid"}, "clients": 3, "scaling": "global"}
    population = decode(Split, written).open(data_folder)
    assert len(population) == 3
    assert heart_disease().split(IID(), clients=3, scaling="global") == decode(Split, written)
