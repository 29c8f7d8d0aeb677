"""What is measured without a server: that operations do there what they do elsewhere."""

from bench.client import Client, trained


def test_every_cost_is_measured():
    """Each row is measured, without a dictionary and with one, which makes records shorter."""
    clients = [Client(None), Client(trained(300))]

    rounds = [client.round() for client in clients]

    assert list(rounds[0]) == list(rounds[1])
    assert min(min(times.values()) for times in rounds) > 0
    assert clients[1].record_bytes < 0.7 * clients[0].record_bytes
