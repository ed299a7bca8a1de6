/** The page: a picture and phrases in, masks, boxes and scores out; thresholds act on what the model has said. */

import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs";

import { color, draw } from "./drawing.js";
import { encodeRle, findMasks, Segmenter } from "./litetext.js";

const MOST_PIXELS = 50e6; // RGBA of the picture and of the overlay: 400 MB
const MOST_PHRASES = 100;
const EXAMPLE = { picture: "example.jpg", phrases: ["ambulance", "red flashlight", "purple flashlight", "dog"] };

// More threads need a page that is isolated from other origins: two headers that a plain static server does not send.
ort.env.wasm.numThreads = globalThis.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency, 4) : 1;
ort.env.logLevel = "error";

const element = (id) => document.getElementById(id);
const times = new Map(); // milliseconds of each stage
const state = {
  segmenter: null,
  picture: null, // ImageData
  embedding: null, // of the picture; null until it is needed
  found: [], // candidates of each phrase
  isBusy: false,
  isStale: false, // something was asked for while busy
};

/** Take the time of a stage. */
async function timed(stage, work) {
  const start = performance.now();
  const result = await work();
  times.set(stage, performance.now() - start);
  return result;
}

function say(status, error = "") {
  element("status").textContent = status;
  element("error").textContent = error;
  element("error").hidden = !error;
}

/** Run work that may fail; what went wrong is said in one line. */
async function guarded(work) {
  try {
    await work();
  } catch (error) {
    say("", error instanceof Error ? error.message : String(error));
  }
}

/** Pixels of an image file, upright, laid over white where it is transparent. */
async function readPicture(blob, name) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  } catch {
    throw new Error(`${name} is not a picture that this browser reads`);
  }
  const { width, height } = bitmap;
  if (width * height > MOST_PIXELS) {
    bitmap.close();
    const millions = [width * height, MOST_PIXELS].map((pixels) => Math.round(pixels / 1e6));
    throw new Error(`${name} has ${millions[0]} million pixels: scale it down to ${millions[1]} million`);
  }
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return context.getImageData(0, 0, width, height);
}

/** Show a picture, and find the phrases in it. */
async function takePicture(blob, name) {
  say(`Reading ${name} …`);
  const picture = await timed("picture decoding", () => readPicture(blob, name));
  Object.assign(state, { picture, embedding: null, found: [] });
  show();
  await find();
}

/** The phrases of the text field, each once. */
function phrases() {
  const lines = element("phrases").value.split("\n").map((line) => line.trim());
  const found = [...new Set(lines)].filter(Boolean);
  if (found.length === 0) {
    throw new Error("an empty phrase: say what to look for");
  }
  if (found.length > MOST_PHRASES) {
    throw new Error(`${found.length} phrases: give at most ${MOST_PHRASES}`);
  }
  return found;
}

/** Find the phrases in the picture; one run at a time, and once more if the question has changed meanwhile. */
async function find() {
  if (state.isBusy || !state.segmenter || !state.picture) {
    state.isStale = state.isBusy;
    return;
  }
  state.isBusy = true;
  try {
    do {
      state.isStale = false;
      await findOnce();
    } while (state.isStale);
  } finally {
    state.isBusy = false;
  }
}

async function findOnce() {
  const { segmenter, picture } = state;
  const asked = phrases();
  say("Segmenting …");
  await new Promise((done) => setTimeout(done)); // the page shows it before the processor is busy
  const embedding = state.embedding ?? (await timed("vision encoder", () => segmenter.embed(picture)));
  await timed("text encoder", () => segmenter.encode(asked));
  const found = await timed("decoder", () => segmenter.run(embedding, asked));
  if (picture === state.picture) {
    Object.assign(state, { embedding, found });
    await timed("masks and drawing", show);
    showTimes();
  }
}

/** The thresholds of the sliders. */
function thresholds() {
  return { threshold: element("threshold").valueAsNumber, maskThreshold: element("mask-threshold").valueAsNumber };
}

/** Draw the instances above the thresholds, and list them. */
function show() {
  for (const id of ["threshold", "mask-threshold"]) {
    element(`${id}-value`).textContent = element(id).valueAsNumber.toFixed(2);
  }
  if (!state.picture) {
    return;
  }
  const results = state.found.map((one) => ({ phrase: one.phrase, instances: findMasks(one, thresholds()) }));
  const instances = results.flatMap((result) => result.instances);
  draw(element("canvas"), state.picture, instances);
  showLegend(results);
  const summary = results.map(({ phrase, instances: some }) => `${phrase}: ${some.length}`).join(", ");
  element("canvas").setAttribute("aria-label", summary ? `The picture with masks. ${summary}` : "The picture");
  element("save").disabled = instances.length === 0;
  if (results.length > 0) {
    say(`Found ${count(instances.length, "instance")} of ${count(results.length, "phrase")}.`);
  }
}

function count(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

function showLegend(results) {
  let index = 0;
  const items = results.map(({ phrase, instances }) => {
    const item = document.createElement("li");
    const chips = document.createElement("div");
    chips.className = "chips";
    chips.append(...instances.map(({ score }) => chip(index++, score)));
    item.append(`${phrase}: ${instances.length}`, chips);
    return item;
  });
  element("legend").replaceChildren(...items);
}

/** Color, number and score of an instance. */
function chip(index, score) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 1 1");
  svg.setAttribute("aria-hidden", "true");
  const square = document.createElementNS(svg.namespaceURI, "rect");
  Object.entries({ width: 1, height: 1, fill: `rgb(${color(index).join()})` }).forEach(([key, value]) =>
    square.setAttribute(key, value),
  );
  svg.append(square);
  const span = document.createElement("span");
  span.append(svg, `${index + 1}, score ${score.toFixed(2)}`);
  return span;
}

function showTimes() {
  const rows = [...times].map(([stage, milliseconds]) => {
    const row = document.createElement("tr");
    const [name, value] = [document.createElement("th"), document.createElement("td")];
    name.scope = "row";
    name.textContent = stage;
    value.textContent = `${milliseconds.toFixed(0)} ms`;
    row.append(name, value);
    return row;
  });
  element("times").replaceChildren(...rows);
}

/** What is shown, as COCO has it: boxes as left, top, width and height, masks as run lengths. */
function toCoco() {
  const { width, height } = state.picture;
  const results = state.found.map((one) => findMasks(one, thresholds()));
  const annotations = results.flatMap((instances, place) =>
    instances.map(({ score, box: [left, top, right, bottom], mask }) => ({
      image_id: 1,
      category_id: place + 1,
      bbox: [left, top, right - left, bottom - top],
      area: mask?.area ?? 0,
      segmentation: mask ? encodeRle(mask, [height, width]) : { size: [height, width], counts: [height * width] },
      iscrowd: 0,
      score,
    })),
  );
  return {
    images: [{ id: 1, width, height }],
    categories: state.found.map(({ phrase }, place) => ({ id: place + 1, name: phrase })),
    annotations: annotations.map((annotation, place) => ({ id: place + 1, ...annotation })),
  };
}

function save() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(toCoco())], { type: "application/json" }));
  link.download = "annotations.json";
  link.click();
  URL.revokeObjectURL(link.href);
}

async function takeExample() {
  const response = await fetch(EXAMPLE.picture);
  element("file").value = "";
  element("phrases").value = EXAMPLE.phrases.join("\n");
  await takePicture(await response.blob(), EXAMPLE.picture);
}

/** The first file of a paste or a drop. */
function takeTransfer(event, transfer) {
  const [file] = transfer?.files ?? [];
  if (file) {
    event.preventDefault();
    guarded(() => takePicture(file, file.name));
  }
}

function listen() {
  element("form").addEventListener("submit", (event) => {
    event.preventDefault();
    guarded(find);
  });
  element("phrases").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      guarded(find);
    }
  });
  element("file").addEventListener("change", (event) => {
    const [file] = event.target.files;
    if (file) {
      guarded(() => takePicture(file, file.name));
    }
  });
  element("example").addEventListener("click", () => guarded(takeExample));
  element("save").addEventListener("click", save);
  for (const id of ["threshold", "mask-threshold"]) {
    element(id).addEventListener("input", show);
  }
  document.addEventListener("paste", (event) => takeTransfer(event, event.clipboardData));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => takeTransfer(event, event.dataTransfer));
}

async function start() {
  listen();
  await takeExample();
  const progress = (file) => say(`Loading the model: ${file} …`);
  state.segmenter = await timed("model loading", () => Segmenter.open(ort, "bundle/", progress));
  element("segment").disabled = false;
  await find();
}

guarded(start);
