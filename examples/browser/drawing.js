/** Masks drawn over a picture: a tint and an outline in the color of the instance, and its number. */

const TINT = 0.45; // share of the color inside a mask
const COLORS = 20;

/**
 * One of twenty colors: hues a golden angle apart, so that neighbors in the list differ most, in two brightnesses.
 * @param {number} index
 * @returns {[number, number, number]}
 */
export function color(index) {
  const hue = (0.02 + (index % COLORS) * 0.381966) % 1;
  const [value, saturation] = index % 2 === 0 ? [1, 0.9] : [0.75, 1];
  const channel = (offset) => {
    const place = (offset + hue * 6) % 6;
    return Math.round(255 * value * (1 - saturation * Math.max(0, Math.min(place, 4 - place, 1))));
  };
  return [channel(5), channel(3), channel(1)];
}

/**
 * Draw a picture and its instances, large ones first so that none is hidden.
 * @param {HTMLCanvasElement} canvas gets the size of the picture
 * @param {ImageData} picture
 * @param {import("./litetext.js").Instance[]} instances the place in the list chooses the color and is the number
 */
export function draw(canvas, picture, instances) {
  [canvas.width, canvas.height] = [picture.width, picture.height];
  const line = Math.max(1, Math.round(Math.max(picture.width, picture.height) / 500));
  const numbered = instances.map(({ mask, box }, index) => ({ mask, box, index })).filter(({ mask }) => mask?.area);
  numbered.sort((one, other) => other.mask.area - one.mask.area);
  const pixels = new ImageData(new Uint8ClampedArray(picture.data), picture.width);
  numbered.forEach(({ mask, index }) => tint(pixels, mask, color(index), line));
  const context = canvas.getContext("2d");
  context.putImageData(pixels, 0, 0);
  const taken = [];
  numbered.forEach(({ box, index }) => taken.push(drawNumber(context, box, index, taken)));
}

/** Color the pixels of a mask, those near its border fully. */
function tint(pixels, mask, rgb, line) {
  const isIn = (row, column) =>
    row >= 0 && row < mask.height && column >= 0 && column < mask.width && mask.bits[row * mask.width + column] === 1;
  for (let row = 0; row < mask.height; row += 1) {
    for (let column = 0; column < mask.width; column += 1) {
      if (isIn(row, column)) {
        const isInner =
          isIn(row - line, column) && isIn(row + line, column) && isIn(row, column - line) && isIn(row, column + line);
        const place = 4 * ((mask.top + row) * pixels.width + mask.left + column);
        blend(pixels.data, place, rgb, isInner ? TINT : 1);
      }
    }
  }
}

function blend(data, place, rgb, share) {
  rgb.forEach((value, channel) => {
    data[place + channel] = (1 - share) * data[place + channel] + share * value;
  });
}

/** Draw the number of an instance in the upper left corner of its box, or to the right of those that are there. */
function drawNumber(context, box, index, taken) {
  const { width, height } = context.canvas;
  const size = Math.max(11, Math.round(Math.max(width, height) / 32));
  const [red, green, blue] = color(index);
  const text = String(index + 1);
  context.font = `600 ${size}px system-ui, sans-serif`;
  context.textBaseline = "top";
  const [wide, high] = [context.measureText(text).width + size * 0.5, size * 1.2];
  const top = Math.max(0, Math.min(box[1], height - high));
  let left = Math.max(0, Math.min(box[0], width - wide));
  const isTaken = (one) => left < one.left + one.wide && one.left < left + wide && Math.abs(top - one.top) < high;
  while (left + 2 * wide <= width && taken.some(isTaken)) {
    left += wide;
  }
  context.fillStyle = `rgb(${red} ${green} ${blue})`;
  context.fillRect(left, top, wide, high);
  context.fillStyle = 0.299 * red + 0.587 * green + 0.114 * blue > 140 ? "black" : "white"; // luma of BT.601
  context.fillText(text, left + size * 0.25, top + size * 0.12);
  return { left, top, wide };
}
