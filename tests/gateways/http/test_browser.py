"""The docs page in a real browser: it shows what is there, and calls it."""

from __future__ import annotations

import datetime as dt  # noqa: TC003  a service's hint
import enum
from collections.abc import AsyncIterator  # noqa: TC003  a service's hint
from typing import Annotated

from msgspec import Meta

from examples.ticker import Ticker
from kitmsg import BusinessError, Code, Service, endpoint
from kitmsg.schema import header
from tests.gateways.http.browser import open_tab


class TooLoud(BusinessError):
    """Not so loud."""

    code = Code.OUT_OF_RANGE
    times: int


class Greeter(Service):
    """Says <b>hello</b>."""

    @endpoint(http="GET /hello/{name}", raises=[TooLoud])
    async def hello(
        self,
        name: str,
        times: int = 1,
        mark: Annotated[str, header("X-Mark")] = "!",
    ) -> str:
        """Say hello."""
        if times > 3:
            raise TooLoud(times)
        return f"Hello, {name}{mark}" * times


FILL = """
const form = document.querySelector("details.endpoint form");
for (const [name, value] of Object.entries(%s)) {
  const labels = [...form.querySelectorAll("label")];
  const label = labels.find((one) => one.textContent.startsWith(name));
  document.getElementById(label.htmlFor).value = value;
}
form.dispatchEvent(new Event("input"));
form.requestSubmit();
"""
ANSWER = "document.querySelector('details.endpoint form [aria-live] strong')"
FORM = "const form = document.querySelector('details.endpoint form');"


async def test_a_call_is_made_from_the_page(hub, start, chromium, tmp_path):
    """It lists the endpoint, sends the request and shows the answer, good or bad."""
    await hub.serve(Greeter())
    call = await start(hub)
    async with open_tab(chromium, tmp_path, f"{call.server.url}/docs") as tab:
        await tab.until("document.querySelector('details.endpoint summary')")
        assert "greeter" in await tab.run(
            "return document.querySelector('nav').innerText"
        )
        assert "Says <b>hello</b>" in await tab.run("return document.body.innerText")
        await tab.run("document.getElementById('greeter.hello').open = true")
        await tab.until("document.querySelector('details.endpoint form')")
        await tab.run(FILL % '{name: "Ann", times: "2", "X-Mark": "?"}')
        await tab.until(ANSWER)
        shown = await tab.run(
            FORM + "return form.querySelector('[aria-live]').innerText"
        )
        assert shown.startswith("200 OK")
        assert "Hello, Ann?Hello, Ann?" in shown
        command = await tab.run(FORM + "return form.querySelector('pre').innerText")
        assert command.startswith("curl -H 'X-Mark: ?' 'http://127.0.0.1:")
        assert "400 TooLoud" in await tab.run(FORM + "return form.innerText")
        assert tab.faults == []
        await tab.run(FILL % '{times: "9"}')
        await tab.until(f"{ANSWER}?.innerText.startsWith('400')")
        shown = await tab.run(
            FORM + "return form.querySelector('[aria-live]').innerText"
        )
        assert '"error": "TooLoud"' in shown
    assert call.server.metrics.count("greeter.hello", "ok") == 1
    assert call.server.metrics.count("greeter.hello", "out_of_range") == 1


async def test_json_rpc_is_called_from_the_page(hub, start, chromium, tmp_path):
    """By the form at its end; the page needs nothing from outside."""
    await hub.serve(Greeter())
    call = await start(hub)
    async with open_tab(chromium, tmp_path, f"{call.server.url}/docs") as tab:
        await tab.until("document.getElementById('json-rpc')")
        script = """
        const rpc = document.getElementById("json-rpc");
        rpc.open = true;
        rpc.querySelector("textarea").value = JSON.stringify(
          { jsonrpc: "2.0", method: "hello", params: ["Bob"], id: 1 });
        rpc.querySelector("form").requestSubmit();
        const find = () => rpc.querySelector("[aria-live] pre");
        while (!find()) await new Promise((go) => setTimeout(go, 20));
        return JSON.parse(find().innerText);
        """
        assert await tab.run(script) == {
            "jsonrpc": "2.0",
            "result": "Hello, Bob!",
            "id": 1,
        }
        assert tab.faults == []


async def test_items_are_sent_from_the_page(hub, start, chromium, tmp_path):
    """Line by line in the form's body; the result is shown."""
    await hub.serve(Ticker())
    call = await start(hub)
    async with open_tab(chromium, tmp_path, f"{call.server.url}/docs") as tab:
        await tab.until("document.getElementById('ticker.average')")
        script = """
        const place = document.getElementById("ticker.average");
        place.open = true;
        const pause = () => new Promise((go) => setTimeout(go, 20));
        while (!place.querySelector("form")) await pause();
        for (const tab of place.querySelectorAll("button.quiet"))
          if (tab.innerText.startsWith("POST")) tab.click();
        place.querySelector("textarea").value = "1\\n2\\n";
        place.querySelector("form").requestSubmit();
        const find = () => place.querySelector("[aria-live] pre");
        while (!find()) await pause();
        return find().innerText;
        """
        assert await tab.run(script) == "1.5"
        assert tab.faults == []


class Feeds(Service):
    """Streams in every way."""

    @endpoint(http="GET /ticks/{count}")
    async def ticks(self, count: int) -> AsyncIterator[int]:
        """Count."""
        for number in range(count):
            yield number

    @endpoint(http="POST /follow/{count}")
    async def follow(self, count: int) -> AsyncIterator[int]:
        """Count, asked for by POST."""
        yield count

    @endpoint(http="POST /upload/{name}")
    async def upload(self, name: str, items: AsyncIterator[int]) -> int:
        """Add."""
        return sum([item async for item in items])

    @endpoint
    async def add(self, items: AsyncIterator[int]) -> int:
        """Add, without a name."""
        return sum([item async for item in items])

    @endpoint(http="PUT /talk/{name}")
    async def talk(self, name: str, items: AsyncIterator[int]) -> AsyncIterator[int]:
        """Say it again."""
        async for item in items:
            yield item


async def test_the_declared_route_of_a_stream_comes_first(
    hub, start, chromium, tmp_path
):
    """The others, which the gateway adds, stand behind it; GET for items is the last."""
    await hub.serve(Feeds())
    call = await start(hub)
    async with open_tab(chromium, tmp_path, f"{call.server.url}/docs") as tab:
        await tab.until("document.getElementById('feeds.add')")
        script = """
        return [...document.querySelectorAll("details.endpoint")].map((one) =>
          `${one.querySelector(".method").textContent} `
          + one.querySelector(".path").textContent);
        """
        assert await tab.run(script) == [
            "post /feeds/add",
            "post /follow/{count}",
            "put /talk/{name}",
            "get /ticks/{count}",
            "post /upload/{name}",
            "post /rpc",
        ]
        script = """
        const place = document.getElementById("feeds.upload");
        place.open = true;
        while (!place.querySelector("form"))
          await new Promise((go) => setTimeout(go, 20));
        return [...place.querySelectorAll("button.mono")].map((one) => one.textContent);
        """
        assert await tab.run(script) == [
            "POST /upload/{name}",
            "POST /feeds/upload",
            "GET /feeds/upload",
            "GET /upload/{name}",
        ]
        assert tab.faults == []


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Kinds(Service):
    """Takes what needs an input of its own."""

    @endpoint(http="GET /kinds/{count}")
    async def show(
        self,
        count: int,
        at: Annotated[dt.datetime, Meta(tz=True)] | None = None,
        colour: Colour | None = None,
        big: int = 2**60 + 1,
    ) -> dict[str, str | int | list[int]]:
        """Show what came.

        Args:
            count: How many there are,
                at most.
            at: When.
            colour: Which of them.
            big: More than a double can tell apart.
        """
        told = f"{at and at.isoformat()} {colour and colour.name}"
        return {"told": told, "exact": [count, big]}

    @endpoint(http="PUT /files/{name}")
    async def keep(self, name: str, data: bytes) -> int:
        """Take a file."""
        return len(data)

    @endpoint(http="GET /files/{name}")
    async def give(self, name: str) -> bytes:
        """Give a file."""
        return name.encode()


OPEN = """
const place = document.getElementById("%s");
place.open = true;
const pause = () => new Promise((go) => setTimeout(go, 20));
while (!place.querySelector("form")) await pause();
const form = place.querySelector("form");
const control = (name) => document.getElementById(
  [...form.querySelectorAll("label")].find(
    (one) => one.querySelector("code").textContent === name).htmlFor);
const answer = async (what) => {
  form.dispatchEvent(new Event("input"));
  form.requestSubmit();
  while (!form.querySelector(`[aria-live] ${what}`)) await pause();
  return form.querySelector(`[aria-live] ${what}`);
};
"""


async def test_each_kind_of_parameter_has_its_input(hub, start, chromium, tmp_path):
    """A picker of times, a choice for an optional enum, the docstring's words."""
    await hub.serve(Kinds())
    call = await start(hub)
    async with open_tab(chromium, tmp_path, f"{call.server.url}/docs") as tab:
        await tab.until("document.getElementById('kinds.show')")
        found = await tab.run(
            OPEN % "kinds.show"
            + """
            return [control("at").type, control("at").value,
              [...control("colour").options].map((one) => one.value).sort(),
              control("big").placeholder, form.innerText];
            """
        )
        assert found[:4] == [
            "datetime-local",
            "",
            ["", "blue", "red"],
            "default 1152921504606846977",
        ]
        assert "How many there are, at most." in found[4]
        shown = await tab.run(
            OPEN % "kinds.show"
            + """
            control("count").value = "9007199254740993";
            control("at").value = "2030-01-31T12:00";
            control("colour").value = "blue";
            return (await answer("pre")).textContent;
            """
        )
        numbers = "[\n    9007199254740993,\n    1152921504606846977\n  ]"
        assert f'"exact": {numbers}' in shown
        assert "2030-01-" in shown
        assert "+00:00 BLUE" in shown
        assert tab.faults == []


async def test_files_go_up_and_down_from_the_page(hub, start, chromium, tmp_path):
    """A body of bytes is a file; a result of bytes is a link to keep it."""
    await hub.serve(Kinds())
    call = await start(hub)
    async with open_tab(chromium, tmp_path, f"{call.server.url}/docs") as tab:
        await tab.until("document.getElementById('kinds.keep')")
        script = """
        control("name").value = "a.txt";
        const chosen = new DataTransfer();
        chosen.items.add(new File(["12345"], "a.txt"));
        form.querySelector("input[type=file]").files = chosen.files;
        await answer("strong");
        return form.innerText;
        """
        found = await tab.run(OPEN % "kinds.keep" + script)
        assert "--data-binary '@a.txt'" in found
        assert "200 OK" in found
        script = """
        control("name").value = "abc";
        const link = await answer("a[download]");
        return [link.innerText, link.protocol];
        """
        assert await tab.run(OPEN % "kinds.give" + script) == ["3 bytes", "blob:"]
        assert tab.faults == []
    assert call.server.metrics.count("kinds.keep", "ok") == 1
