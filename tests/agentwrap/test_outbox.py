from agentwrap.outbox import Outbox
from agentwrap_protocol.messages import Bye, EpisodeEnd, Hello, Step, Weights

STREAM = "0" * 32


def step(number):
    return Step(
        stream=STREAM,
        step=number,
        episode=0,
        episode_step=0,
        reward=0,
        episode_return=0,
        terminated=False,
        truncated=False,
    )


def end(number):
    return EpisodeEnd(stream=STREAM, episode=number, step=0, length=1, episode_return=0, seconds=0, reason="terminated")


def weights(version):
    return Weights(stream=STREAM, policy_version=version, step=0)


def taken(outbox):
    return list(iter(outbox.take, None))


def test_messages_keep_their_order():
    outbox = Outbox()
    messages = [step(0), end(0), weights(1), step(1), Bye(stream=STREAM)]
    for message in messages:
        outbox.put(message)
    assert taken(outbox) == messages
    assert outbox.dropped_steps == 0


def test_newer_steps_push_out_older_ones_and_nothing_else():
    outbox = Outbox(steps=2)
    outbox.put(end(0))
    for number in range(5):
        outbox.put(step(number))
    assert [getattr(message, "step", None) for message in taken(outbox)] == [0, 3, 4]
    assert outbox.dropped_steps == 3
    outbox.put(step(5))
    assert len(taken(outbox)) == 1, "what was taken makes room"


def test_reliable_messages_are_bounded_too():
    outbox = Outbox(reliable=3)
    outbox.put(step(0))
    for number in range(5):
        outbox.put(end(number))
    assert [message.episode for message in taken(outbox)[1:]] == [2, 3, 4]
    assert outbox.dropped_steps == 0


def test_of_weights_only_the_newest_waits():
    outbox = Outbox()
    for version in (1, 2, 3):
        outbox.put(step(version))
        outbox.put(weights(version))
    kept = taken(outbox)
    assert [message.policy_version for message in kept if isinstance(message, Weights)] == [3]
    assert len(kept) == 4
    assert Hello.reliable
