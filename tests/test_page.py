"""The factory's page in a real browser, with a device that the real agent rotates."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import requests

from fioagent.factory.fleet.events import ROTATION
from tests import needs
from tests.browser import Browser, browser
from tests.factory.peers import TIMEOUT_S
from tests.power import PowerCutError, StopAt, rotate
from tests.world import World

PLANTED = (
    "<img src=x onerror=\"document.title='planted'\"><script>document.title='planted'</script>"
)


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One for all: a browser takes seconds to start."""
    program = needs.browser()
    with browser(program, tmp_path_factory.mktemp("browser") / "profile") as opened:
        yield opened


@pytest.fixture
def address(world: World) -> str:
    """As ``serve`` prints it."""
    token = world.factory.paths.api_token.read_text().strip()
    return f"{world.urls.api}/#{token}"


@pytest.fixture
def page(window: Browser, world: World, address: str) -> Iterator[Browser]:
    """Open, with the device in it. Whatever a test does: no error, and no word to strangers."""
    window.resize(1280, 900)
    window.said()
    window.open(address)
    window.until_text("#device-rows", world.uuid)
    yield window
    assert [] == window.said()
    allowed = (f"{world.urls.api}/", "about:", "data:")
    assert [] == [url for url in window.asked_for() if not url.startswith(allowed)]


def row(world: World) -> str:
    return f'tr[data-key="{world.uuid}"]'


def steps(page: Browser) -> list[str]:
    """Names of the steps that are done, or have failed."""
    told = page.ask("[...document.querySelectorAll('.taken .what')].map(e => e.textContent)")
    return [str(name) for name in told]


def words(world: World, *events: tuple[str, bool, str]) -> None:
    """What the device reports of a rotation."""
    certificate, key = world.live_pair()
    body = [
        {
            "id": f"{world.uuid}-{number}",
            "deviceTime": "2026-11-21T00:01:03Z",
            "event": {"correlationId": "certs-1", "success": success, "details": details},
            "eventType": {"id": name, "version": 0},
        }
        for number, (name, success, details) in enumerate(events)
    ]
    answer = requests.post(
        f"{world.urls.gateway}/events",
        json=body,
        cert=(str(certificate), str(key)),
        verify=str(world.storage / "root.crt"),
        timeout=TIMEOUT_S,
    )
    assert answer.status_code == 200


def test_the_page_shows_the_factory_and_its_device(page: Browser, world: World) -> None:
    """And the token is gone from where people and bookmarks would see it."""
    shown = page.text(row(world))
    assert "7,299 of 7,300 days left" in shown
    assert "by Local CA" in shown
    assert "unlocked" in shown
    assert "never" not in shown
    certificates = page.text("#certificates")
    for name in ("Root CA", "Gateway TLS", "EST TLS", "Online CA", "Local CA"):
        assert name in certificates
    assert page.text("#live") == "live"
    assert page.ask("location.href") == f"{world.urls.api}/"
    page.reload()
    page.until_text("#device-rows", world.uuid)


def test_a_rotation_appears_step_by_step_and_ends(page: Browser, world: World) -> None:
    """Asked for by the button, cut by a power cut, and finished by the real agent."""
    page.click(f'{row(world)} [data-part="rotate"]')
    page.until_text("#said", "is asked to rotate as certs-")
    page.until_text(row(world), "asked")
    identifier = page.text(f'{row(world)} [data-part="show"] code')

    with pytest.raises(PowerCutError):
        rotate(world, StopAt("after post_events"), identifier)

    page.until_text(row(world), "running")
    assert "locked" in page.text(row(world))
    assert steps(page) == list(ROTATION[:5])
    assert page.text("#rotation .to-come:last-child").endswith(ROTATION[-1])
    page.until_text("#rotation .requests", "POST …/simplereenroll")

    assert world.rotate().code == 0

    page.until_text(row(world), "completed")
    assert steps(page) == list(ROTATION)
    assert "1 former key denied" in page.text(row(world))
    assert "by Online CA" in page.text(row(world))
    assert not page.has("#rotation .to-come")


def test_a_rotation_that_fails_says_why(page: Browser, world: World) -> None:
    world.factory.set_knob("est_answer", "403")
    assert world.rotate().code == 1

    page.until_text(row(world), "failed")
    page.click(f'{row(world)} [data-part="show"]')
    page.until_text("#rotation .bad .details", "The lab made the EST server answer this")


def test_a_knob_is_switched_by_a_click(page: Browser, world: World) -> None:
    """A value of several, a number, a number that cannot be, and all back."""
    knob = 'li[data-key="old_key"]'
    page.click(f'{knob} [data-part="value-drop"]')
    page.until_text("#said", "old_key is drop from the next request on.")
    assert world.factory.knob("old_key") == "drop"
    page.until(lambda: page.has(f'{knob} [data-part="value-drop"][aria-pressed="true"]'), "it")
    page.until_text("#knobs-count", "1 turned")

    number = 'li[data-key="est_retry_after_s"]'
    page.fill(f"{number} input", "15")
    page.click(f"{number} button")
    page.until_text("#said", "est_retry_after_s is 15")
    assert world.factory.knob("est_retry_after_s") == "15"

    page.click("#reset")
    page.until_text("#said", "All knobs are at their defaults.")
    assert (world.factory.knob("old_key"), world.factory.knob("est_retry_after_s")) == ("403", "1")
    world.factory.set_knob("old_key", "502")  # somebody else, on the command line
    page.until(lambda: page.has(f'{knob} [data-part="value-502"][aria-pressed="true"]'), "it")


def test_a_fault_is_shown_and_removed(page: Browser, world: World) -> None:
    asked = {"action": "status", "status": 503, "path": "/config", "device": PLANTED}
    token = world.factory.paths.api_token.read_text().strip()
    url = f"{world.urls.api}/control/faults/"
    answer = requests.post(url, json=asked, headers={"OSF-TOKEN": token}, timeout=TIMEOUT_S)
    assert answer.status_code == 201
    page.until_text("#fault-list", PLANTED)
    assert "acted 0 times" in page.text("#fault-list")

    page.click("#fault-list [data-part=mend]")

    page.until_text("#faults-count", "none is set")
    assert "planted" not in page.ask("document.title")


def test_a_refusal_is_told_in_the_factorys_words(page: Browser, world: World) -> None:
    with pytest.raises(PowerCutError):
        rotate(world, StopAt("after set_next_key"), "certs-1")
    page.click(f'{row(world)} [data-part="rotate"]')

    page.until_text("#said.bad", "is locked, the device has announced a new key")

    said = page.said()
    assert len(said) == 1  # the browser's own line about the answer 409
    assert "409" in said[0]


def test_what_a_device_plants_is_text(page: Browser, new_world: Callable[[], World]) -> None:
    """In the details and in the name of a step; no group can be called so."""
    world = new_world()
    words(world, (PLANTED, True, ""), ("Generate new certificate", False, PLANTED))

    page.until_text(row(world), "to be tried again")
    page.click(f'{row(world)} [data-part="show"]')
    page.until_text("#rotation .details", PLANTED)

    assert PLANTED in page.text("#rotation .what")
    assert not page.has("main img, main script")
    assert "planted" not in page.ask("document.title")


def test_what_is_left_of_a_life_grows_less_before_your_eyes(page: Browser, world: World) -> None:
    """Nothing happens at the factory meanwhile; the page's own clock goes on."""
    days = "document.querySelector('#authority-rows .life').textContent"
    before = str(page.ask(days))

    page.ask("(now => { Date.now = () => now() + 21 * 365 * 86400e3; })(Date.now)")

    page.until(lambda: page.ask(days) != before, "the bar")
    assert "expired" in page.text("#authority-rows .life")


def test_a_devices_name_is_text(page: Browser, world: World) -> None:
    """An operator names it, and whoever has an operator's token is not always the one who looks."""
    name = "<img src=x onerror=document.title='planted'>"
    token = world.factory.paths.api_token.read_text().strip()
    url = f"{world.urls.api}/ota/devices/{world.uuid}/"
    answer = requests.patch(
        url, json={"name": name}, headers={"OSF-TOKEN": token}, timeout=TIMEOUT_S
    )
    assert answer.status_code == 200, answer.text
    page.until_text("#device-rows", name)

    page.click('[data-part=rotate][aria-label*="<img src=x"]')
    page.until_text("#said", world.uuid)

    assert not page.has("main img")
    assert "planted" not in page.ask("document.title")


def test_all_of_it_is_in_reach_of_the_keyboard(page: Browser, world: World) -> None:
    """Tab comes to every control; arrows move within a knob and turn nothing, Enter does."""
    every = (
        "[...document.querySelectorAll('a, button, input')]"
        ".filter(e => e.offsetParent && e.tabIndex === 0).length"
    )
    seen = set()
    page.ask("document.activeElement.blur()")
    for _ in range(page.ask(every)):
        page.press("Tab")
        seen.add(page.ask("[...document.querySelectorAll('*')].indexOf(document.activeElement)"))
    assert page.ask(every) == len(seen)

    page.ask("document.querySelector('li[data-key=old_key] [aria-pressed=true]').focus()")
    page.press("Right", "Right")
    assert page.ask("document.activeElement.textContent") == "502"
    assert world.factory.knob("old_key") == "403"
    page.press("Enter")
    page.until_text("#said", "old_key is 502")
    page.until_text("#knobs-count", "1 turned")
    # The row was made anew, and the focus is where it was.
    assert page.ask("document.activeElement.textContent") == "502"


def test_everything_that_can_be_pressed_or_filled_in_has_a_name(page: Browser) -> None:
    nameless = page.ask(
        "[...document.querySelectorAll('button, input, a')].filter(e =>"
        " !(e.textContent.trim() || e.ariaLabel || e.labels?.length"
        " || e.hasAttribute('aria-labelledby')))"
        ".map(e => e.outerHTML)"
    )
    assert [] == nameless
    assert page.ask("[...document.querySelectorAll('h1, h2, h3')].map(e => e.tagName)")[0] == "H1"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(page: Browser, world: World, scheme: str) -> None:
    """By 4.5 to 1, as WCAG's AA asks, in both schemes and in every state of a rotation."""
    words(world, ("CertRotationStarted", True, ""), ("Generate new certificate", False, "why"))
    page.until_text(row(world), "to be tried again")
    page.devtools(
        "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
    )
    try:
        assert [] == page.ask(f"({FAINT})()")
    finally:
        page.devtools("Emulation.setEmulatedMedia", features=[])


def test_a_narrow_window_shows_all_of_it(page: Browser, world: World) -> None:
    """360 pixels: nothing to be scrolled sideways."""
    assert world.rotate().code == 0
    page.until_text(row(world), "completed")

    page.resize(360, 780)

    assert page.ask("document.documentElement.scrollWidth") <= 360
    assert "7,299 of" not in page.text(row(world))
    assert "1,094 of 1,095 days left" in page.text(row(world))


def test_without_the_token_the_page_asks_for_it(
    window: Browser, world: World, address: str
) -> None:
    window.open(address)
    window.until_text("#device-rows", world.uuid)
    base, _, token = address.partition("#")

    window.open(f"{base}#wrong")

    window.until_text("#said", "That is not the token of this factory.")
    assert not window.has("#shown:not([hidden])")
    window.fill("#token", token)
    window.press("Enter")
    window.until_text("#device-rows", world.uuid)
    window.said()  # the browser's own line about the answer 401


# Every text whose contrast with what is painted behind it is below 4.5, with the figure.
FAINT = """() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const painted = rgb(getComputedStyle(e).backgroundColor);
      if (painted.length < 4 || painted[3] > 0) return painted;
    }
    return [255, 255, 255];
  };
  const own = (e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
  return [...document.body.querySelectorAll('*')].filter((e) => e.offsetParent && own(e))
    .map((e) => {
      const [one, other] = [light(rgb(getComputedStyle(e).color)), light(ground(e))];
      const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
      return [e.textContent.slice(0, 40), contrast];
    }).filter(([, contrast]) => contrast < 4.5);
}"""
