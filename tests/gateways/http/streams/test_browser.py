"""Streams in a real browser: its own EventSource and WebSocket, and the docs page."""

from __future__ import annotations

from tests.gateways.http.browser import open_tab

EVENTS = """
return await new Promise((done) => {
  const seen = [];
  const source = new EventSource("/log");
  source.onmessage = (e) => seen.push([e.lastEventId, JSON.parse(e.data)]);
  source.addEventListener("end", () => { source.close(); done(seen); });
});
"""

SOCKET = """
return await new Promise((done) => {
  const seen = [];
  const socket = new WebSocket(
    location.origin.replace("http", "ws") + "/echo?prefix=%3E", "kitmsg.json");
  socket.onopen = () => socket.send(JSON.stringify("hello"));
  socket.onmessage = async (e) => {
    if (typeof e.data === "string") {
      seen.push(JSON.parse(e.data));
      socket.send("1");
    } else seen.push(JSON.parse(await e.data.text()).status);
  };
  socket.onclose = (e) => setTimeout(() => done([...seen, e.code]), 50);
});
"""

WATCH = """
document.getElementById("feed.wait").open = true;
const find = (text) => document.querySelector("[id='feed.wait'] " + text);
const until = async (what) => {
  while (!what()) await new Promise((go) => setTimeout(go, 20));
  return what();
};
await until(() => find("form"));
const labels = [...document.querySelectorAll("[id='feed.wait'] form label")];
const label = labels.find((one) => one.textContent.startsWith("items"));
document.getElementById(label.htmlFor).value = "2";
find("form").requestSubmit();
const pre = await until(() => find("[aria-live] pre"));
await until(() => pre.innerText.includes("1"));
find("[aria-live] button").click();
await until(() => !find("[aria-live] button"));
return [find("[aria-live] strong").innerText, pre.innerText];
"""


async def test_event_source_and_websocket(call, feed, chromium, tmp_path):
    """Ids, the end, an item both ways, a problem and its close code."""
    async with open_tab(chromium, tmp_path, f"{call.server.url}/docs") as tab:
        lines = [[str(i), f"line {i}"] for i in range(1, 6)]
        assert await tab.run(EVENTS) == lines
        assert await tab.run(SOCKET) == [">hello", 400, 4400]


async def test_a_browser_comes_back_where_it_was(call, feed, chromium, tmp_path):
    """With the last id that it has seen, after the time that it was told."""
    script = """
    return await new Promise((done) => {
      const seen = [];
      const source = new EventSource("/log");
      source.onmessage = (e) => seen.push(e.lastEventId);
      source.onerror = () => seen.push("lost");
      source.addEventListener("end", () => seen.push("end"));
      setInterval(() => {
        if (seen.filter((one) => one === "end").length < 2) return;
        source.close();
        done(seen);
      }, 20);
    });
    """
    async with open_tab(chromium, tmp_path, f"{call.server.url}/docs") as tab:
        seen = await tab.run(script)
    # It does not heed "end" here: so it comes back, and has seen everything.
    assert "lost" in seen
    found = [one for one in seen if one != "lost"]
    assert found == ["1", "2", "3", "4", "5", "end", "end"]


async def test_a_stream_is_watched_on_the_docs_page(
    call, feed, chromium, tmp_path, nothing_left
):
    """Items appear as they come, and the reader can stop."""
    async with open_tab(chromium, tmp_path, f"{call.server.url}/docs") as tab:
        await tab.until("document.getElementById('feed.wait')")
        assert await tab.run(WATCH) == ["200 OK", "0\n1\n"]
        assert tab.faults == []
    await nothing_left()
