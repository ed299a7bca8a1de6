/**
 * A segmenter that `litetext export` wrote, in a browser: phrases in, masks out, as LiteText's Python gives them.
 *
 *   import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs";
 *   const segmenter = await Segmenter.open(ort, "bundle/");
 *   const embedding = await segmenter.embed(context.getImageData(0, 0, width, height));
 *   const found = findMasks(await segmenter.run(embedding, ["red car"]), { threshold: 0.5, maskThreshold: 0.5 });
 */

import { resizeMask, sigmoid, toPixels } from "./pictures.js";
import { Tokenizer } from "./tokenizer.js";

export { encodeRle, resize } from "./pictures.js";
export { Tokenizer } from "./tokenizer.js";

const PROGRAMS = { vision: "vision-encoder.onnx", decoder: "decoder.onnx" };
const BANK = "text-bank.safetensors";
const LEVELS = ["fpn_feat_0", "fpn_feat_1", "fpn_feat_2", "fpn_pos_2"];
const MOST_PHRASES = 8; // in the decoder at once
const MOST_CELLS = 8192; // of the coarsest level, times phrases: more at once are no faster and take memory each
const AGAIN = "export the model again, for ONNX and with a text encoder that is a program";

/**
 * A picture as the model sees it, for any number of phrases.
 * @typedef {{size: [number, number], vision: Record<string, object>}} Embedding
 */

/**
 * What the model says of one phrase before any threshold: Q candidates.
 * @typedef {object} Candidates
 * @property {string} phrase
 * @property {[number, number]} size height and width of the picture
 * @property {Float32Array} scores [Q]
 * @property {Float32Array} boxes left, top, right, bottom from 0 to 1, [Q, 4]
 * @property {Float32Array} masks logits, [Q, h, w]
 * @property {[number, number]} cells h and w
 */

/**
 * An instance of a phrase: its box is left, top, right, bottom in pixels; its mask is null where no pixel is in.
 * @typedef {{score: number, box: number[], mask: import("./pictures.js").Mask | null}} Instance
 */

/** A SAM3 model with its text encoder. */
export class Segmenter {
  /** Use `Segmenter.open`. */
  constructor(ort, manifest, tokenizer, sessions) {
    this.ort = ort;
    this.manifest = manifest;
    this.tokenizer = tokenizer;
    this.sessions = sessions;
    this.features = new Map();
  }

  /**
   * Fetch the files of a folder and open their programs.
   * @param {object} ort the module onnxruntime-web
   * @param {string} folder its address, with a slash at the end
   * @param {(what: string) => void} [progress] is told what is being opened
   * @returns {Promise<Segmenter>}
   * @throws {Error} a file is missing or of another size than its manifest says, or no whole segmenter is there
   */
  static async open(ort, folder, progress = () => {}) {
    const manifest = checkManifest(await fetchJson(folder, "litetext.json"));
    const tokenizer = new Tokenizer(await fetchJson(folder, "tokenizer.json"));
    const sessions = {};
    for (const [name, file] of Object.entries({ ...PROGRAMS, text: manifest.text.file })) {
      progress(file);
      sessions[name] = await openProgram(ort, folder, file, manifest.files);
    }
    return new Segmenter(ort, manifest, tokenizer, sessions);
  }

  /**
   * What the model sees of a picture.
   * @param {import("./pictures.js").Picture} picture
   * @returns {Promise<Embedding>}
   */
  async embed(picture) {
    const { size, mean, std } = this.manifest;
    const pixels = toPixels(picture, size, mean, std);
    const images = new this.ort.Tensor("float32", pixels, [1, 3, ...size]);
    const vision = await this.sessions.vision.run({ images });
    return { size: [picture.height, picture.width], vision };
  }

  /**
   * Features of the tokens of each phrase, [L_i, width]; those that were computed before are remembered.
   * @param {string[]} phrases
   * @returns {Promise<Float32Array[]>}
   * @throws {Error} an empty phrase
   */
  async encode(phrases) {
    if (phrases.some((phrase) => !phrase.trim())) {
      throw new Error("an empty phrase: say what to look for");
    }
    const missing = [...new Set(phrases)].filter((phrase) => !this.features.has(phrase));
    if (missing.length > 0) {
      const { ids, mask, length, lengths } = this.tokenizer.batch(missing, this.manifest.text.context_length);
      const shape = [missing.length, length];
      const { text_features: features } = await this.sessions.text.run({
        input_ids: new this.ort.Tensor("int64", ids, shape),
        attention_mask: new this.ort.Tensor("int64", mask, shape),
      });
      const { width } = this.manifest;
      missing.forEach((phrase, index) => {
        const start = index * length * width;
        this.features.set(phrase, features.data.slice(start, start + lengths[index] * width));
      });
    }
    return phrases.map((phrase) => this.features.get(phrase));
  }

  /**
   * Candidates of each phrase, for `findMasks` with any thresholds.
   * @param {Embedding} embedding
   * @param {string[]} phrases
   * @returns {Promise<Candidates[]>}
   */
  async run(embedding, phrases) {
    const rows = await this.encode(phrases);
    const [height, width] = embedding.vision.fpn_feat_2.dims.slice(-2);
    const step = Math.max(1, Math.min(MOST_PHRASES, Math.floor(MOST_CELLS / (height * width))));
    const found = [];
    for (let start = 0; start < rows.length; start += step) {
      const outputs = await this.decode(embedding, rows.slice(start, start + step));
      found.push(...split(outputs, phrases.slice(start, start + step), embedding.size));
    }
    return found;
  }

  /** What the decoder says of phrases, by the names of its outputs. */
  async decode(embedding, rows) {
    const { width } = this.manifest;
    const length = Math.max(...rows.map((row) => row.length)) / width;
    const features = new Float32Array(rows.length * length * width);
    const mask = new Uint8Array(rows.length * length);
    rows.forEach((row, index) => {
      features.set(row, index * length * width);
      mask.fill(1, index * length, index * length + row.length / width);
    });
    const given = Object.fromEntries(LEVELS.map((name) => [name, embedding.vision[name]]));
    return this.sessions.decoder.run({
      ...given,
      prompt_features: new this.ort.Tensor("float32", features, [rows.length, length, width]),
      prompt_mask: new this.ort.Tensor("bool", mask, [rows.length, length]),
    });
  }
}

/**
 * The instances of a phrase, best scores first.
 * @param {Candidates} candidates
 * @param {{threshold: number, maskThreshold: number}} options scores are above the first, probabilities of pixels
 *   above the second
 * @returns {Instance[]}
 */
export function findMasks({ size, scores, boxes, masks, cells }, { threshold, maskThreshold }) {
  const [height, width] = size;
  const area = cells[0] * cells[1];
  const kept = [...scores.keys()].filter((index) => scores[index] > Math.fround(threshold));
  kept.sort((one, other) => scores[other] - scores[one]);
  return kept.map((index) => ({
    score: scores[index],
    box: [width, height, width, height].map((scale, side) => Math.fround(boxes[4 * index + side] * scale)),
    mask: resizeMask(masks.subarray(index * area, (index + 1) * area), cells, size, maskThreshold),
  }));
}

/** The outputs of a batch as the candidates of each phrase. */
function split(outputs, phrases, size) {
  const { pred_logits: logits, pred_boxes: boxes, pred_masks: masks, presence_logits: presence } = outputs;
  const [, count, ...cells] = masks.dims;
  const area = cells[0] * cells[1];
  return phrases.map((phrase, row) => {
    const present = sigmoid(presence.data[row]);
    const part = ({ data }, length) => data.slice(row * length, (row + 1) * length);
    const scores = part(logits, count).map((logit) => sigmoid(logit) * present);
    if (!scores.every(Number.isFinite)) {
      throw new Error("scores of the model are not finite: check its weights");
    }
    return { phrase, size, scores, boxes: part(boxes, 4 * count), masks: part(masks, count * area), cells };
  });
}

/** The manifest of a segmenter whose programs a browser can open; an error for any other. */
function checkManifest(manifest) {
  const isOurs = manifest.kind === "segmenter" && manifest.litetext === 1 && !manifest.named;
  const text = manifest.text?.file ?? "";
  if (!isOurs || ![...Object.values(PROGRAMS), text].every((file) => file in manifest.files) || text === BANK) {
    throw new Error(`not a whole segmenter with its weights: ${AGAIN}`);
  }
  return manifest;
}

/** A program with the weights beside it. */
async function openProgram(ort, folder, file, files) {
  const program = await fetchBytes(folder, file, files[file]);
  const weights = `${file}.data`;
  const externalData =
    weights in files ? [{ path: weights, data: await fetchBytes(folder, weights, files[weights]) }] : [];
  return ort.InferenceSession.create(program, { executionProviders: ["wasm"], externalData });
}

async function fetchBytes(folder, file, size) {
  const bytes = new Uint8Array(await (await fetchFile(folder, file)).arrayBuffer());
  if (bytes.length !== size) {
    throw new Error(`${folder}${file} has ${bytes.length} bytes, not the ${size} of its manifest: ${AGAIN}`);
  }
  return bytes;
}

async function fetchJson(folder, file) {
  const response = await fetchFile(folder, file);
  try {
    return await response.json();
  } catch {
    throw new Error(`${folder}${file} is not JSON: ${AGAIN}`);
  }
}

async function fetchFile(folder, file) {
  const response = await fetch(folder + file);
  if (!response.ok) {
    throw new Error(`no ${folder}${file} (HTTP ${response.status}): export a model to that folder first`);
  }
  return response;
}
