"""Files of sealing keys: how they are read, refused, and changed in two steps."""

import pytest

import coatcheck
from coatcheck import ConfigurationError, Keyring, new_key
from coatcheck.runtime.address import Address, environment_keyring
from coatcheck.runtime.key_files import add_key, create_key_file, promote_key, read_key_file


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    """Let no setting of the machine into the tests."""
    for name in ("COATCHECK_URL", "COATCHECK_KEYS", "COATCHECK_KEYS_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def path(tmp_path):
    """Give the path of a file that is not there yet."""
    return tmp_path / "keys"


def write(path, *lines, mode=0o600):
    """Write a key file."""
    path.write_text("\n".join(lines) + "\n")
    path.chmod(mode)


def keys(*texts):
    """Give the keys that are written so."""
    return Keyring.parse(texts).keys


def test_one_key_a_line(path):
    """The keys are read in order; comments and empty lines are none."""
    first, second = new_key(), new_key()
    write(path, "# the shop's keys", "", f"  {first}  # made in May", second, "# end")

    assert read_key_file(path).keys == keys(first, second)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_others_may_read_it(path, mode):
    """A file that others may read is refused."""
    write(path, new_key(), mode=mode)

    with pytest.raises(ConfigurationError, match="other users may read the sealing key"):
        read_key_file(path)


@pytest.mark.parametrize("line", ["cck_short", "two " * 2, "cck_" + "x" * 43 + "," + "cck_" + "x" * 43])
def test_a_line_that_is_no_key(path, line):
    """A line that is no key is refused by its number, and not repeated: it may be half a key."""
    write(path, "# comment", new_key(), line)

    with pytest.raises(ConfigurationError, match=r"keys, line 3: this is no sealing key \(one a line\)$"):
        read_key_file(path)


def test_empty_file(path):
    """A file without a key is refused."""
    write(path, "# nothing")

    with pytest.raises(ConfigurationError, match="holds no sealing key"):
        read_key_file(path)


def test_file_that_is_not_there(path):
    """A file that is not there is an error, and is not made."""
    with pytest.raises(ConfigurationError, match="cannot be read: No such file or directory"):
        read_key_file(path)

    assert not path.exists()


def test_sessions_with_a_path(server, path):
    """Sessions take their keys from a path."""
    write(path, new_key())

    with coatcheck.Sessions(server.url, keys=path) as sessions:
        session = sessions.create({"a": 1})
    with coatcheck.Sessions(server.url, keys=read_key_file(path)) as sessions:
        assert sessions.load(session.identifier)["a"] == 1


def test_path_from_the_environment(path, monkeypatch):
    """COATCHECK_KEYS_FILE names the file, where keys are not given."""
    text, other = new_key(), new_key()
    write(path, text)
    monkeypatch.setenv("COATCHECK_KEYS_FILE", str(path))

    assert Address("redis://h").keyring(None).keys == keys(text)
    assert Address("redis://h").keyring(other).keys == keys(other)


def test_two_sources_in_the_environment(path, monkeypatch):
    """Keys and a file of keys at once are a contradiction, and are refused."""
    monkeypatch.setenv("COATCHECK_KEYS_FILE", str(path))
    monkeypatch.setenv("COATCHECK_KEYS", new_key())

    with pytest.raises(ConfigurationError, match="COATCHECK_KEYS and COATCHECK_KEYS_FILE are both set"):
        environment_keyring()


def test_new_file(path):
    """A file is made with one key, for its owner alone, and never over another file."""
    key = create_key_file(path)

    assert path.stat().st_mode & 0o777 == 0o600
    assert read_key_file(path).keys == (key,)
    with pytest.raises(ConfigurationError, match="is there already"):
        create_key_file(path)
    assert read_key_file(path).keys == (key,)


def test_rotation_in_two_steps(path):
    """A new key comes to the end first and to the front then; comments and the other keys stay."""
    first, second = new_key(), new_key()
    write(path, "# the shop's keys", first, second)

    added = add_key(path)
    assert read_key_file(path).keys == (*keys(first, second), added)
    assert promote_key(path) == added

    assert read_key_file(path).keys == (added, *keys(first, second))
    assert path.read_text().startswith("# the shop's keys\ncck_")
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["keys"]


def test_no_second_key_while_one_waits(path):
    """While a new key waits no other is added: it would be promoted unseen."""
    create_key_file(path)
    add_key(path)
    before = path.read_text()

    with pytest.raises(ConfigurationError, match="a new key waits"):
        add_key(path)

    assert path.read_text() == before


def test_promoting_twice(path):
    """Without a key that waits nothing is moved: a key from before would seal again."""
    create_key_file(path)
    add_key(path)
    promote_key(path)
    before = path.read_text()

    with pytest.raises(ConfigurationError, match=r"no key of .* waits to be promoted: add one first with keys rotate"):
        promote_key(path)

    assert path.read_text() == before


def test_rotation_through_a_link(path, tmp_path):
    """A link to the file stays one."""
    create_key_file(path)
    link = tmp_path / "link"
    link.symlink_to(path)

    key = add_key(link)

    assert link.is_symlink()
    assert read_key_file(path).keys[-1] == key


def test_interrupted_rotation(path):
    """A draft that somebody else is writing, or has left, stops the rotation; the file stays."""
    create_key_file(path)
    before = path.read_text()
    path.with_name("keys.draft").touch()

    with pytest.raises(ConfigurationError, match=r"keys\.draft is there: another rotation"):
        add_key(path)

    assert path.read_text() == before


@pytest.mark.parametrize("change", [add_key, promote_key])
def test_a_damaged_file_is_not_rotated(path, change):
    """A file with a line that is no key is left as it is."""
    write(path, new_key(), "cck_damaged")
    before = path.read_text()

    with pytest.raises(ConfigurationError, match="line 2"):
        change(path)

    assert path.read_text() == before
