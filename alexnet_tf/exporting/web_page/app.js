// The page: takes an image, runs the network and its first layer with LiteRT.js, and shows what they say.

import {loadAndCompile, loadLiteRt, Tensor} from "@litertjs/core";
import {networkInput, region} from "./pixels.js";

const MAX_SIDE = 8192;  // A larger picture is scaled by the browser first: a canvas has a limit.
const element = (id) => document.getElementById(id);
const percent = new Intl.NumberFormat("en", {style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1});

let run, network, firstLayer, video;
let isBusy = false;

/** Loads the run's description and both networks, then lets a person in. */
async function start() {
  run = await (await fetch("run.json")).json();
  describe();
  await loadLiteRt(new URL(document.body.dataset.wasm, document.baseURI).href);
  [network, firstLayer] = await Promise.all(
    ["network.tflite", "first_layer.tflite"].map((name) => loadAndCompile(name, {accelerator: "wasm"})));
  element("choose").disabled = element("camera").disabled = false;
  element("camera").hidden = !navigator.mediaDevices?.getUserMedia;
  document.body.dataset.ready = "true";
}

function describe() {
  document.title = `AlexNet: ${run.name}`;
  element("run").textContent = run.name;
  const error = run.top1_error === null ? "" : ` Top-1 error: ${percent.format(run.top1_error)} of ${run.compared_on}.`;
  element("about").textContent =
    `The ${run.architecture} network, ${run.classes.length.toLocaleString("en")} classes, after epoch ${run.epoch}.${error}`;
  const towers = run.towers.length > 1 ? "; the two towers apart, as they were on two GPUs" : "";
  const count = run.towers.reduce((sum, each) => sum + each.filters, 0);
  element("maps-about").textContent = `What each of its ${count} filters responds to${towers}. Bright is strong.`;
  element("towers").replaceChildren(...run.towers.map(makeTower));
}

function makeTower(tower) {
  const part = document.createElement("div");
  const title = document.createElement("h3");
  title.textContent = tower.title;
  const maps = document.createElement("div");
  maps.className = "maps";
  maps.setAttribute("role", "img");
  maps.setAttribute("aria-label", `${tower.title}: ${tower.filters} maps`);
  for (let filter = 0; filter < tower.filters; filter++) {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = run.map_size;
    canvas.title = `filter ${filter + 1}`;
    maps.append(canvas);
  }
  part.append(title, maps);
  return part;
}

/** Shows what the network says of a Blob, or why it says nothing. */
async function classifyFile(blob) {
  stopCamera();
  say("");
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, {colorSpaceConversion: "none", premultiplyAlpha: "none"});
  } catch {
    return say(`${blob.name || "That"} is not an image that this browser can read. JPEG, PNG and WebP files are.`);
  }
  await classify(bitmap, bitmap.width, bitmap.height);
  bitmap.close();
}

/** Runs both networks on an image and draws their answers. */
async function classify(image, width, height) {
  const start = performance.now();
  const cut = region(width, height, run.resize);
  const scale = Math.min(1, MAX_SIDE / Math.max(cut.width, cut.height));
  const [outWidth, outHeight] = [Math.round(cut.width * scale), Math.round(cut.height * scale)];
  const canvas = new OffscreenCanvas(outWidth, outHeight);
  const context = canvas.getContext("2d", {willReadFrequently: true});
  context.drawImage(image, cut.left, cut.top, cut.width, cut.height, 0, 0, outWidth, outHeight);
  const rgba = context.getImageData(0, 0, outWidth, outHeight).data;
  const input = networkInput(rgba, outWidth, outHeight, run.image_size);
  showInput(input);
  const probabilities = await forward(network, input);
  const milliseconds = performance.now() - start;
  showClasses(probabilities, milliseconds);
  showMaps(await forward(firstLayer, input));
  document.body.dataset.probabilities = JSON.stringify(Array.from(probabilities));
}

async function forward(model, input) {
  const tensor = new Tensor(input, [1, run.image_size, run.image_size, 3]);
  const [output] = await model.run([tensor]);
  const values = (await output.data()).slice();
  tensor.delete();
  output.delete();
  return values;
}

function showInput(input) {
  const canvas = element("preview");
  canvas.width = canvas.height = run.image_size;
  const pixels = new ImageData(run.image_size, run.image_size);
  for (let i = 0; i < input.length / 3; i++) {
    pixels.data.set([input[3 * i], input[3 * i + 1], input[3 * i + 2], 255], 4 * i);
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  canvas.hidden = false;
  element("hint").hidden = true;
  element("stage").classList.add("filled");
}

function showClasses(probabilities, milliseconds) {
  const ranked = Array.from(probabilities.keys()).sort((a, b) => probabilities[b] - probabilities[a]).slice(0, 5);
  element("classes").replaceChildren(...ranked.map((index) => {
    const item = document.createElement("li");
    const [bar, row, name, value] = ["div", "div", "span", "span"].map((tag) => document.createElement(tag));
    [bar.className, row.className, name.className, value.className] = ["bar", "row", "name", "value"];
    bar.style.width = `${100 * probabilities[index]}%`;
    name.textContent = run.classes[index];
    value.textContent = percent.format(probabilities[index]);
    row.append(name, value);
    item.append(bar, row);
    return item;
  }));
  if (!video) {
    element("status").textContent =
      `${run.classes[ranked[0]]}: ${percent.format(probabilities[ranked[0]])}, in ${milliseconds.toFixed(0)} ms.`;
  }
}

/** Draws the maps, [map_size, map_size, filters] with the towers' filters in order, each scaled to its own maximum. */
function showMaps(values) {
  const {map_size: size} = run;
  const canvases = document.querySelectorAll(".maps canvas");
  const filters = canvases.length;
  canvases.forEach((canvas, filter) => {
    let most = 1e-6;
    for (let i = filter; i < values.length; i += filters) most = Math.max(most, values[i]);
    const pixels = new ImageData(size, size);
    for (let i = 0; i < size * size; i++) pixels.data.set(colour(values[i * filters + filter] / most), 4 * i);
    canvas.getContext("2d").putImageData(pixels, 0, 0);
  });
}

/** From dark blue over the accent to pale yellow; the value is in [0, 1]. */
function colour(value) {
  const stops = [[16, 22, 48], [52, 92, 190], [120, 180, 225], [255, 244, 200]];
  const place = Math.min(Math.max(value, 0), 1) * 3;
  const low = Math.min(Math.floor(place), 2);
  return [...stops[low].map((from, i) => from + (stops[low + 1][i] - from) * (place - low)), 255];
}

async function toggleCamera() {
  if (video) return stopCamera();
  say("");
  try {
    const stream = await navigator.mediaDevices.getUserMedia({video: {facingMode: "environment"}});
    video = element("video");
    video.srcObject = stream;
    await video.play();
  } catch (error) {
    stopCamera();
    return say(error.name === "NotAllowedError" ? "The browser was not allowed to use the camera."
      : "There is no camera that the browser can use.");
  }
  element("camera").textContent = "Stop the camera";
  element("status").textContent = "Live from the camera.";
  requestAnimationFrame(nextFrame);
}

async function nextFrame() {
  if (!video) return;
  if (video.videoWidth) await classify(video, video.videoWidth, video.videoHeight).catch(tell);
  requestAnimationFrame(nextFrame);
}

function stopCamera() {
  video?.srcObject?.getTracks().forEach((track) => track.stop());
  video = undefined;
  element("camera").textContent = "Use the camera";
}

/** Takes the first file of a list, one at a time. */
async function take(files) {
  const [file] = files;
  if (!file || !network || isBusy) return;
  isBusy = true;
  await classifyFile(file).catch(tell);
  isBusy = false;
}

function say(text) {
  element("message").textContent = text;
}

function tell(error) {
  console.error(error);
  say(`Something went wrong: ${error.message || error}`);
}

element("choose").addEventListener("click", () => element("file").click());
element("file").addEventListener("change", (event) => {
  take(event.target.files);
  event.target.value = "";  // So that the same file can be chosen again.
});
element("camera").addEventListener("click", toggleCamera);
addEventListener("paste", (event) => { take(event.clipboardData.files); });
addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("dragging"); });
addEventListener("dragleave", () => { document.body.classList.remove("dragging"); });
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  take(event.dataTransfer.files);
});
start().catch((error) => {
  console.error(error);
  element("about").textContent = "The network could not be loaded.";
  say(location.protocol === "file:" ? "Browsers do not load such pages from a file: serve the folder, for example with "
    + "python -m http.server, and open http://localhost:8000." : `${error.message || error}`);
});
