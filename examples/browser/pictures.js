/** Pixels in, masks out: what LiteText's Python does (`src/litetext/sam3/pixels.py`, `masks.py`), number for number. */

const MOST_BITS = 22;

/**
 * A picture with 8 bits a channel: the `ImageData` of a canvas.
 * @typedef {{data: Uint8ClampedArray | Uint8Array, width: number, height: number}} Picture
 */

/**
 * Where a mask is in, within a rectangle of the picture; outside it the mask is out.
 * @typedef {object} Mask
 * @property {number} left of the rectangle, in pixels
 * @property {number} top
 * @property {number} width
 * @property {number} height
 * @property {Uint8Array} bits 0 or 1, [height, width]
 * @property {number} area how many pixels are in
 */

/**
 * A picture as a model reads it: float32 [3, height, width], (value / 255 - mean) / std.
 * @param {Picture} picture RGBA; what is transparent has been laid over a color before
 * @param {[number, number]} size height and width
 * @param {number[]} mean of each channel, from 0 to 1
 * @param {number[]} std of each channel
 * @returns {Float32Array}
 */
export function toPixels(picture, [height, width], mean, std) {
  const rgb = resize(picture, height, width);
  const count = height * width;
  const pixels = new Float32Array(3 * count);
  for (let channel = 0; channel < 3; channel += 1) {
    const shift = Math.fround(Math.fround(mean[channel]) * 255);
    const scale = Math.fround(Math.fround(std[channel]) * 255);
    for (let index = 0; index < count; index += 1) {
      pixels[channel * count + index] = Math.fround(rgb[3 * index + channel] - shift) / scale;
    }
  }
  return pixels;
}

/**
 * A picture at another size, bilinear with antialiasing, bit for bit as torchvision does it: RGB, [height, width, 3].
 * @param {Picture} picture RGBA
 * @param {number} height
 * @param {number} width
 * @returns {Uint8Array}
 */
export function resize(picture, height, width) {
  const count = picture.width * picture.height;
  const rgb = new Uint8Array(3 * count);
  for (let index = 0; index < count; index += 1) {
    rgb[3 * index] = picture.data[4 * index];
    rgb[3 * index + 1] = picture.data[4 * index + 1];
    rgb[3 * index + 2] = picture.data[4 * index + 2];
  }
  const wide = resample(rgb, picture.height, picture.width, width, 3);
  return resample(wide, 1, picture.height, height, 3 * width);
}

/** An array uint8 [outer, old, inner] as [outer, count, inner]: weighted sums along the axis, each rounded. */
function resample(source, outer, old, count, inner) {
  if (old === count) {
    return source;
  }
  const { first, weights, bits } = tapWeights(old, count);
  const result = new Uint8Array(outer * count * inner);
  const total = new Int32Array(inner);
  for (let block = 0; block < outer; block += 1) {
    for (let place = 0; place < count; place += 1) {
      total.fill(1 << (bits - 1));
      weights[place].forEach((weight, tap) => {
        const start = (block * old + first[place] + tap) * inner;
        for (let index = 0; index < inner; index += 1) {
          total[index] += source[start + index] * weight;
        }
      });
      const start = (block * count + place) * inner;
      for (let index = 0; index < inner; index += 1) {
        result[start + index] = Math.min(Math.max(total[index] >> bits, 0), 255);
      }
    }
  }
  return result;
}

/** How `count` places are made of `old`: the first of each, its weights as integers, and their binary places. */
function tapWeights(old, count) {
  const scale = old / count;
  const support = Math.max(scale, 1);
  const first = [];
  const shares = [];
  for (let place = 0; place < count; place += 1) {
    const center = scale * (place + 0.5);
    const start = Math.max(Math.trunc(center - support + 0.5), 0);
    const taps = Math.min(Math.trunc(center + support + 0.5), old) - start;
    const raw = Array.from({ length: taps }, (_, tap) =>
      Math.max(1 - Math.abs((start + tap - center + 0.5) / support), 0),
    );
    const sum = raw.reduce((total, value) => total + value, 0);
    first.push(start);
    shares.push(raw.map((value) => value / sum));
  }
  const most = shares.reduce((found, row) => Math.max(found, ...row), 0);
  let bits = 0;
  while (bits < MOST_BITS && Math.trunc(0.5 + most * 2 ** (bits + 1)) < 1 << 15) {
    bits += 1;
  }
  const weights = shares.map((row) => row.map((value) => Math.floor(value * 2 ** bits + 0.5)));
  return { first, weights, bits };
}

/**
 * Where the probability of mask logits, resized bilinearly, is above a threshold; null if it is so nowhere.
 * @param {Float32Array} logits [h, w]
 * @param {[number, number]} from h and w
 * @param {[number, number]} size height and width of the picture
 * @param {number} threshold
 * @returns {Mask | null}
 */
export function resizeMask(logits, from, size, threshold) {
  threshold = Math.fround(threshold);
  const probabilities = logits.map(sigmoid);
  const spans = insideSpans(probabilities, from, size, threshold);
  if (spans === null) {
    return null;
  }
  const [rows, columns] = spans;
  const [height, width] = [rows.end - rows.start, columns.end - columns.start];
  const wide = widen(probabilities, from[0], columns, from[1], width);
  const bits = new Uint8Array(height * width);
  let area = 0;
  for (let row = 0; row < height; row += 1) {
    const { low, high, share } = at(rows.neighbors, rows.start + row);
    const rest = Math.fround(1 - share);
    for (let column = 0; column < width; column += 1) {
      const above = Math.fround(wide[low * width + column] * rest);
      const value = Math.fround(above + Math.fround(wide[high * width + column] * share));
      bits[row * width + column] = value > threshold ? 1 : 0;
      area += bits[row * width + column];
    }
  }
  return { left: columns.start, top: rows.start, width, height, bits, area };
}

/** Probabilities [h, w] with their rows resized to the columns of a span: float32 [h, width]. */
function widen(probabilities, height, span, old, width) {
  const wide = new Float32Array(height * width);
  for (let column = 0; column < width; column += 1) {
    const { low, high, share } = at(span.neighbors, span.start + column);
    const rest = Math.fround(1 - share);
    for (let row = 0; row < height; row += 1) {
      const before = Math.fround(probabilities[row * old + low] * rest);
      wide[row * width + column] = before + Math.fround(probabilities[row * old + high] * share);
    }
  }
  return wide;
}

/**
 * The rows and the columns of the picture that cells above the threshold have a share in; null if none is above it.
 * A mean of neighbors is above it nowhere else.
 */
function insideSpans(probabilities, [h, w], [height, width], threshold) {
  const rows = new Set();
  const columns = new Set();
  probabilities.forEach((value, index) => {
    if (value > threshold) {
      rows.add(Math.floor(index / w));
      columns.add(index % w);
    }
  });
  return rows.size === 0 ? null : [span([...rows], h, height), span([...columns], w, width)];
}

/** Of an axis of `old` cells that is resized to `count`, the part in which these cells have a share. */
function span(cells, old, count) {
  const around = neighbors(old, count);
  const [first, last] = [Math.min(...cells), Math.max(...cells)];
  const start = around.high.findIndex((cell) => cell >= first);
  const end = around.low.findLastIndex((cell) => cell <= last) + 1;
  return { start, end, neighbors: around };
}

/** Of each of `count` places the two cells of `old` on either side, and the share of the second one. */
function neighbors(old, count) {
  const scale = Math.fround(old / count);
  const low = new Int32Array(count);
  const high = new Int32Array(count);
  const share = new Float32Array(count);
  for (let index = 0; index < count; index += 1) {
    const place = Math.max(Math.fround(Math.fround(scale * Math.fround(index + 0.5)) - 0.5), 0);
    low[index] = Math.min(Math.trunc(place), old - 1);
    high[index] = Math.min(low[index] + 1, old - 1);
    share[index] = place - low[index];
  }
  return { low, high, share };
}

/** The neighbors of one place. */
function at({ low, high, share }, index) {
  return { low: low[index], high: high[index], share: share[index] };
}

/**
 * 1 / (1 + exp(-logit)) in float32.
 * @param {number} logit
 * @returns {number}
 */
export function sigmoid(logit) {
  return Math.fround(1 / Math.fround(1 + Math.fround(Math.exp(-logit))));
}

/**
 * A mask as COCO's run lengths: down the columns of the picture, pixels that are out first.
 * @param {Mask} mask
 * @param {[number, number]} size height and width of the picture
 * @returns {{size: [number, number], counts: number[]}}
 */
export function encodeRle(mask, [height, width]) {
  const counts = [];
  let [value, start] = [0, 0];
  const change = (place) => {
    counts.push(place - start);
    [value, start] = [1 - value, place];
  };
  for (let column = 0; column < mask.width; column += 1) {
    const first = (mask.left + column) * height + mask.top;
    for (let row = 0; row < mask.height; row += 1) {
      if (mask.bits[row * mask.width + column] !== value) {
        change(first + row);
      }
    }
    const isLast = column + 1 === mask.width;
    if (value === 1 && (mask.height < height || isLast)) {
      change(first + mask.height); // below the rectangle, or to the right of it
    }
  }
  if (start < height * width) {
    change(height * width);
  }
  return { size: [height, width], counts };
}
