"""Tests of `web`: the page's files, and the page itself in a headless Chromium."""

import base64
import json
import os
import shutil
import threading
import time
import urllib.request

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.data import input_pipeline
from alexnet_tf.exporting import engines, tflite, web
from alexnet_tf.exporting.export import ExportError
from alexnet_tf.network import alexnet
from alexnet_tf.runs.directory import load_model
from alexnet_tf.support import errors
from tests.helpers.saved_models import picture

CHROME = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
LITERT_JS = os.environ.get("LITERT_JS")  # A node_modules folder with @litertjs/core.
CHROME_FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --window-size=1200,900 --use-fake-device-for-media-stream "
    "--use-fake-ui-for-media-stream"
).split()
HAND_OVER = """
const bytes = Uint8Array.from(atob(arguments[1]), (each) => each.charCodeAt(0));
const transfer = new DataTransfer();
transfer.items.add(new File([bytes], "a.jpg", {type: "image/jpeg"}));
dispatchEvent(arguments[0] === "drop" ? new DragEvent("drop", {dataTransfer: transfer, cancelable: true})
  : new ClipboardEvent("paste", {clipboardData: transfer}));
"""


@pytest.fixture
def packages(tmp_path):
    """A node_modules folder with files of the right names."""
    for name in web._LITERT_JS_FILES:
        path = tmp_path / "node_modules" / "@litertjs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "node_modules"


@pytest.fixture
def export_page(export_run):
    """Returns the function that exports a run's page and returns its artifact and folder."""

    def export_page(run, litert_js=None):
        [_, artifact], _ = export_run(run, "web", litert_js=litert_js and str(litert_js))
        return artifact, run.path / "export" / "web"

    return export_page


def test_the_page_is_whole_and_knows_its_run(run, packages, export_page):
    artifact, page = export_page(run, packages.parent)
    assert artifact.next_step.startswith("To open the page: python") and artifact.path == "web/network.tflite"
    assert artifact.size_bytes == sum(each.stat().st_size for each in page.rglob("*") if each.is_file())
    assert artifact.name == "web page" and artifact.agreement > 0.9 and artifact.difference < 0.1
    description = json.loads((page / "run.json").read_text())
    assert description["classes"] == run.class_names() and description["image_size"] == 67
    assert description["towers"] == [{"title": "Tower a", "filters": 4}, {"title": "Tower b", "filters": 4}]
    assert description["epoch"] == 30 and 0 <= description["top1_error"] < 0.5
    html = (page / "index.html").read_text()
    assert "{{" not in html and "http://" not in html.replace("http://www.w3.org", "")
    for address in ("litert/core/dist/index.js", "litert/wasm-utils/dist/index.js"):
        assert f'"./{address}"' in html and (page / address).is_file()
    assert (page / "litert/core/wasm/litert_wasm_internal.wasm").read_text() == "core/wasm/litert_wasm_internal.wasm"


def test_the_first_layer_is_keras_own(run, packages, export_page):
    _, page = export_page(run, packages)
    model, _, _ = load_model(run, precision="float32")
    images = np.random.default_rng(0).integers(0, 256, (2, 67, 67, 3)).astype("uint8")
    normalized = model.get_layer("normalize")(images.astype("float32"))
    expected = [np.maximum(model.get_layer(f"conv1_{tower}")(normalized), 0) for tower in "ab"]
    got = engines.load_tflite(page / "first_layer.tflite", 1)(images)
    np.testing.assert_allclose(got, np.concatenate(expected, axis=-1), rtol=0, atol=1e-4)


def test_an_address_is_used_instead_of_files(run, export_page):
    _, page = export_page(run, "https://example.org/npm/")
    html = (page / "index.html").read_text()
    version = web.LITERT_JS_VERSION
    assert f'"https://example.org/npm/@litertjs/core@{version}/dist/index.js"' in html
    assert f'data-wasm="https://example.org/npm/@litertjs/core@{version}/wasm/"' in html
    assert not (page / "litert").exists()


def test_without_litert_js_the_message_says_what_to_do(run, export_page, tmp_path, monkeypatch):
    with pytest.raises(ExportError, match="does not hold @litertjs/core"):
        export_page(run, tmp_path / "nowhere")
    monkeypatch.setattr(shutil, "which", lambda _: "false")  # An npm that fails.
    with pytest.raises(ExportError, match="npm could not fetch @litertjs/core@.*--litert_js=node_modules"):
        export_page(run)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(ExportError, match="There is no npm here. .*--litert_js=node_modules"):
        export_page(run)


def test_npm_fetches_litert_js_once(run, export_page, packages, tmp_path, monkeypatch):
    npm = tmp_path / "npm"  # npm install --silent --ignore-scripts --prefix FOLDER PACKAGES
    npm.write_text(f'#!/bin/sh\n[ "$1" = install ] && cp -r {packages} "$5"\n')
    npm.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda _: str(npm))
    _, page = export_page(run)
    assert (page / "litert/wasm-utils/dist/index.js").read_text() == "wasm-utils/dist/index.js"
    npm.unlink()
    export_page(run)


@pytest.fixture
def serve():
    """Returns the function that serves a run's page and returns its address."""
    servers = []

    def start(run):
        server = web.make_server(run, web.ServeOptions(port=0))
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://localhost:{server.server_address[1]}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_the_server_serves_what_is_there_now(run, packages, export_page, serve):
    with pytest.raises(errors.UserError, match="has no page yet. Export it first: python .*--formats=web"):
        web.make_server(run, web.ServeOptions(port=0))
    _, page = export_page(run, packages)
    address = serve(run)
    with urllib.request.urlopen(f"{address}litert/core/wasm/litert_wasm_internal.wasm") as response:
        assert response.headers["Content-Type"] == "application/wasm"
        assert response.headers["Cache-Control"] == "no-cache"
    (page / "run.json").write_text("{}")
    with urllib.request.urlopen(f"{address}run.json") as response:
        assert response.read() == b"{}"
    with pytest.raises(errors.UserError, match="Cannot listen on .*--port=0"):
        web.make_server(run, web.ServeOptions(port=int(address.rstrip("/").split(":")[-1])))


@pytest.fixture
def browser():
    """A headless Chromium that logs its requests."""
    webdriver = pytest.importorskip("selenium.webdriver")
    if not (CHROME and DRIVER and LITERT_JS):
        pytest.skip("needs chromium, chromedriver and LITERT_JS=node_modules with @litertjs/core")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROME
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    for flag in CHROME_FLAGS:
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def wait_for(driver, script):
    deadline = time.monotonic() + 60
    while not (value := driver.execute_script(f"return {script}")):
        assert time.monotonic() < deadline, driver.execute_script("return document.body.innerText")
        time.sleep(0.05)
    return value


def requested_hosts(driver):
    """The hosts that a page asked for anything."""
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    urls = [each["params"]["request"]["url"] for each in messages if each["method"] == "Network.requestWillBeSent"]
    return {url.split("/")[2] for url in urls if url.startswith("http")}


def test_the_page_in_a_browser(run, export_page, serve, browser, tmp_path):
    _, page = export_page(run, LITERT_JS)
    model, _, _ = load_model(run, precision="float32")
    # In float32, so that what differs from Keras is the page's doing.
    (page / "network.tflite").write_bytes(
        tflite.convert(alexnet.for_export(model, "convolution"), "float32", run.class_names())
    )
    address = serve(run)
    browser.get(address)
    wait_for(browser, "document.body.dataset.ready")
    photographs = [
        picture(1, size=(300, 420)),
        picture(2, 1, tf.io.encode_png, (512, 301)),
        picture(3, size=(700, 611)),
    ]
    for number, encoded in enumerate(photographs):
        path = tmp_path / f"{number}.img"
        path.write_bytes(encoded)
        browser.execute_script("delete document.body.dataset.probabilities")
        browser.find_element("id", "file").send_keys(str(path))
        got = json.loads(wait_for(browser, "document.body.dataset.probabilities"))
        crop = input_pipeline.evaluation_crops(tf.constant(encoded), 67, "paper")
        expected = tf.nn.softmax(model(tf.cast(crop, tf.float32)))[0].numpy()
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-3)
        shown = [each.text for each in browser.find_elements("css selector", "#classes .name")]
        assert shown == [run.class_names()[index] for index in np.argsort(-expected)[:5]]
    assert len(browser.find_elements("css selector", ".maps canvas")) == 8
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(photographs[0][:40])
    browser.find_element("id", "file").send_keys(str(broken))
    assert "broken.jpg is not an image" in wait_for(browser, "document.getElementById('message').textContent")
    assert requested_hosts(browser) == {address.split("/")[2]}


def test_the_page_takes_images_in_every_way(run, export_page, serve, browser):
    export_page(run, LITERT_JS)
    browser.get(serve(run))
    wait_for(browser, "document.body.dataset.ready")
    encoded = base64.b64encode(picture(1, size=(300, 420))).decode()
    answers = []
    for way in ("drop", "paste"):
        browser.execute_script("delete document.body.dataset.probabilities")
        browser.execute_script(HAND_OVER, way, encoded)
        answers.append(wait_for(browser, "document.body.dataset.probabilities"))
    assert answers[0] == answers[1]
    browser.execute_script("document.activeElement.blur()")
    focused = []
    for _ in range(2):  # With the keyboard alone.
        browser.switch_to.active_element.send_keys("\ue004")  # Tab.
        focused.append(browser.switch_to.active_element.get_attribute("id"))
    assert focused == ["choose", "camera"]
    browser.execute_script("delete document.body.dataset.probabilities")
    browser.switch_to.active_element.send_keys(" ")
    wait_for(browser, "document.body.dataset.probabilities")
    assert browser.switch_to.active_element.text == "Stop the camera"
    browser.switch_to.active_element.send_keys(" ")
    assert browser.switch_to.active_element.text == "Use the camera"
    assert browser.find_element("id", "message").text == ""
