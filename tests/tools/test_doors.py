"""The bridge behind the doors: requests that are sent again, and streams that open, close and are lost."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from importlib import import_module
from pathlib import Path

import pytest
from tools.test_wyoming import bridge

from qwen3_asr_mlx_runtime.client import BridgeExited, BridgeLost, ClientError
from qwen3_asr_mlx_runtime.client.events import EventsLost
from qwen3_asr_mlx_runtime.model_name import SPEECH_LEAVES
from qwen3_asr_mlx_runtime.tools.doors.service import NewsLost, Service


class Bridge:
    """Stands for that of a Service. `answer` answers each request."""

    def __init__(self, answer: Callable[[], Awaitable[object]]) -> None:
        self._answer = answer
        self.state = "running"

    async def open(self) -> None:
        self.state = "running"

    async def ask(self, _message: object, _type: object) -> object:
        return await self._answer()

    async def start_stream(self, name: str) -> "Stream":
        await self._answer()
        return Stream(name)


class Stream:
    def __init__(self, name: str) -> None:
        self.stream_id = name
        self.stopped: list[str] = []

    async def stop(self, mode: str) -> None:
        self.stopped.append(mode)
        raise BridgeExited("gone")


def service(answer: Callable[[], Awaitable[object]] = lambda: asyncio.sleep(0)) -> Service:
    made = Service(["unused"], {}, program="door", loads=False)
    made._bridge = Bridge(answer)
    return made


def test_requests_that_are_lost_are_sent_again_one_by_one() -> None:
    tries = open_now = most = 0

    async def answer() -> str:
        nonlocal tries, open_now, most
        tries += 1
        if tries <= 3:
            await asyncio.sleep(0)  # until all were asked
            raise BridgeExited("gone", retryable=True)
        open_now += 1
        most = max(most, open_now)
        for _ in range(10):
            await asyncio.sleep(0)
        open_now -= 1
        return "reply"

    async def main() -> list[object]:
        made = service(answer)
        return await asyncio.gather(*(made.transcribe({}) for _ in range(3)))

    assert asyncio.run(main()) == ["reply"] * 3
    assert (tries, most) == (6, 1)


def test_a_request_opens_a_bridge_that_has_failed() -> None:
    async def main() -> None:
        made = service()
        made._bridge.state = "failed"
        await made.transcribe({})
        assert made.health.state == "ready"

    asyncio.run(main())


def test_where_events_were_lost_every_stream_is_told_and_its_end_stops_it() -> None:
    async def main() -> None:
        made, told, streams = service(), [list[object](), list[object]()], list[Stream]()
        for news in told:
            streams.append(await made.open_stream(news.append))
        made._hand_out(EventsLost(3))
        assert [[type(each) for each in news] for news in told] == [[NewsLost]] * 2
        for stream in streams:
            made.close_stream(stream)
        await asyncio.gather(*made._stopping)
        assert [stream.stopped for stream in streams] == [["discard"]] * 2
        made._hand_out(EventsLost(3))
        assert [len(news) for news in told] == [1, 1]

    asyncio.run(main())


def test_a_stream_that_opens_while_events_are_lost_has_its_news() -> None:
    async def main() -> None:
        held, news = asyncio.Event(), list[object]()
        made = service(held.wait)
        opening = asyncio.create_task(made.open_stream(news.append))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        made._hand_out(EventsLost(1))
        held.set()
        stream = await opening
        made._hand_out(EventsLost(1))
        made.close_stream(stream)
        await asyncio.gather(*made._stopping)
        assert (len(news), stream.stopped) == (2, ["discard"])

    asyncio.run(main())


@pytest.mark.parametrize(("will_restart", "told"), [(True, [1, 0]), (False, [1, 1])])
def test_a_lost_bridge_is_told_to_the_streams_that_it_takes_along(will_restart: bool, told: Sequence[int]) -> None:
    async def main() -> None:
        made, news = service(), [list[object](), list[object]()]
        streams = [await made.open_stream(each.append) for each in news]
        error = BridgeExited("gone")
        made._hand_out(BridgeLost(error, (streams[0].stream_id,), will_restart))
        assert news == [[error] * count for count in told]

    asyncio.run(main())


@pytest.mark.parametrize("resend", [False, True])
def test_a_stream_is_stopped_before_the_next_one_opens(resend: bool) -> None:
    """The bridge of this test has room for one."""
    one = (
        "opened = globals().setdefault('opened', set())\n"
        "if kind == 'stop_stream': opened.discard(name)\n"
        "if kind == 'start_stream' and opened: say({**REFUSED, **ERROR}, id=asked['id']); asked = None\n"
        "elif kind == 'start_stream': opened.add(name)"
    )

    async def main() -> None:
        async with Service(bridge(one), os.environ, program="door", loads=False, resend=resend) as made:
            for _ in range(3):
                made.close_stream(await made.open_stream(lambda _: None))
            await asyncio.gather(*made._stopping)

    asyncio.run(main())


@pytest.mark.parametrize("resend", [False, True])
def test_a_stream_that_opens_although_its_caller_has_gone_is_stopped(tmp_path: Path, resend: bool) -> None:
    late = (
        "if kind == 'start_stream': started = asked; open('begun', 'w').close(); asked = None\n"
        "elif kind == 'cancel': say({**READY, 'stream_id': started['stream_id']}, id=started['id'])\n"
        "elif kind == 'stop_stream' and name == started['stream_id']: open('stopped', 'w').close()"
    )

    async def main() -> None:
        command = bridge(f"os.chdir({str(tmp_path)!r})\n{late}")
        async with Service(command, os.environ, program="door", loads=False, resend=resend) as made:
            opening = asyncio.create_task(made.open_stream(lambda _: None))
            await _until(tmp_path / "begun", made)
            opening.cancel()
            await asyncio.gather(opening, return_exceptions=True)
            assert made._listeners == {}
            await _until(tmp_path / "stopped", made)

    asyncio.run(main())


def test_a_stream_of_a_bridge_that_is_gone_is_closed_without_another_bridge() -> None:
    async def main() -> None:
        die = "if kind == 'ping': os._exit(9)"
        async with Service(bridge(die), os.environ, program="door", loads=False) as made:
            stream = await made.open_stream(lambda _: None)
            with pytest.raises(ClientError):
                await made._bridge.ping()
            made.close_stream(stream)
            await asyncio.gather(*made._stopping)
            assert made.restarts == 0

    asyncio.run(main())


def test_streams_that_open_at_once_open_a_bridge_that_has_failed(tmp_path: Path) -> None:
    (tmp_path / "bad").touch()
    die = f"if kind == 'ping' and os.path.exists({str(tmp_path / 'bad')!r}): os._exit(2)"

    async def main() -> None:
        async with Service(bridge(die), os.environ, program="door", loads=False) as made:
            with pytest.raises(ClientError):
                await made._bridge.ping()
            assert made.health.state == "failed"
            streams = await asyncio.gather(*(made.open_stream(lambda _: None) for _ in range(3)))
            assert len({stream.stream_id for stream in streams}) == 3
            assert made.health.state == "ready"

    asyncio.run(main())


async def _until(path: Path, made: Service) -> None:
    while not path.exists():
        assert made._bridge.state == "running"
        await asyncio.sleep(0)


@pytest.mark.parametrize(("door", "address"), [("serve", "--port=0"), ("wyoming", "--uri=tcp://127.0.0.1:0")])
def test_a_door_with_servers_behind_it_has_their_model_and_says_that_speech_leaves(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], door: str, address: str
) -> None:
    package, plans = f"qwen3_asr_mlx_runtime.tools.{door}", []

    async def run(plan: object, _source: object) -> int:
        plans.append(plan)
        return 0

    monkeypatch.setattr(import_module(f"{package}.server"), "run", run)
    monkeypatch.setenv("QWEN3_ASR_MLX_ENGINE", "http://a")
    monkeypatch.delenv("QWEN3_ASR_MLX_MODEL", raising=False)
    assert import_module(f"{package}.main").main([address], ["bridge"]) == 0
    assert [(plan.command[:3], plan.model) for plan in plans] == [(["bridge", "--model", "served"], "served")]
    assert SPEECH_LEAVES in capsys.readouterr().err
