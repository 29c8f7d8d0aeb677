"""What every framework must do: one list of scenarios over real HTTP, with several worker processes."""


def test_travel(app):
    """What one worker has written, the others read."""
    first, second = app.workers()
    first.post("/set", name="a", value="1")

    second.cookie = first.cookie

    assert second.attributes == first.attributes == {"a": "1"}
