/** CLIP's byte-pair encoding, id for id as LiteText's Python gives it (`src/litetext/tokenizer/`). */

const START_ID = 49406;
const END_ID = 49407;
const END_OF_WORD = "</w>";
const SPECIAL = new Map([["<start_of_text>", START_ID], ["<end_of_text>", END_ID]]);
// SAM3's own pattern; it ignores case there, and sees lower case only.
const PIECES =
  /<start_of_text>|<end_of_text>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\p{White_Space}\p{L}\p{N}]+/gu;

const PLAIN = /^[\x20-\x25\x27-\x7e]*$/; // printable ASCII without "&": nothing to repair
const SPACES = /\p{White_Space}+/gu;
const WIDE_OR_LIGATURE = /[\u3000\uff01-\uffefĲĳŉǄ-ǌǱ-ǳﬀ-ﬆ]/g;
const C1_CONTROL = /[\x80-\x9f]/g;
const WINDOWS = "€\x81‚ƒ„…†‡ˆ‰Š‹Œ\x8dŽ\x8f\x90‘’“”•–—˜™š›œ\x9džŸ"; // what Windows-1252 has in their place
const CONTROL = /[\x00-\x08\x0b\x0e-\x1f\x7f\u206a-\u206f\ufeff\ufff9-\ufffc]/g;
const TERMINAL_ESCAPE = /\x1b\[[\d;]*[a-zA-Z]/g;
const REFERENCE = /&#?[0-9A-Za-z]{1,24};/g;

/**
 * Token ids of phrases at one length, as a text encoder reads them.
 * @typedef {object} TokenBatch
 * @property {BigInt64Array} ids padded with 0, [B, L]
 * @property {BigInt64Array} mask 1 at tokens, start and end included, [B, L]
 * @property {number} length L, that of the longest phrase
 * @property {number[]} lengths tokens of each phrase
 */

/** Text to token ids. */
export class Tokenizer {
  /** @param {{model: {vocab: Record<string, number>, merges: [string, string][]}}} file the JSON of `tokenizer.json` */
  constructor(file) {
    this.ids = new Map(Object.entries(file.model.vocab));
    this.ranks = new Map(file.model.merges.map((pair, rank) => [pair.join(" "), rank]));
  }

  /**
   * Token ids of a text, start and end included.
   * @param {string} text
   * @returns {number[]}
   */
  encode(text) {
    const pieces = clean(text).match(PIECES) ?? [];
    return [START_ID, ...pieces.flatMap((piece) => SPECIAL.get(piece) ?? this.encodePiece(piece)), END_ID];
  }

  /**
   * Token ids of texts, padded to the longest; what is longer than the context is cut and ends with the end token.
   * @param {string[]} texts
   * @param {number} contextLength
   * @returns {TokenBatch}
   */
  batch(texts, contextLength) {
    const rows = texts.map((text) => {
      const ids = this.encode(text);
      return ids.length > contextLength ? [...ids.slice(0, contextLength - 1), END_ID] : ids;
    });
    const lengths = rows.map((row) => row.length);
    const length = Math.max(...lengths);
    const ids = new BigInt64Array(rows.length * length);
    const mask = new BigInt64Array(ids.length);
    rows.forEach((row, index) => {
      ids.set(row.map(BigInt), index * length);
      mask.fill(1n, index * length, index * length + row.length);
    });
    return { ids, mask, length, lengths };
  }

  /**
   * Token ids of a word: the pair that was merged first in training is merged first.
   * @param {string} piece
   * @returns {number[]}
   */
  encodePiece(piece) {
    let parts = Array.from(new TextEncoder().encode(piece), (byte) => ALPHABET[byte]);
    parts[parts.length - 1] += END_OF_WORD;
    for (let pair = this.firstPair(parts); pair; pair = this.firstPair(parts)) {
      parts = merged(parts, pair);
    }
    return parts.map((part) => this.ids.get(part));
  }

  /**
   * The pair of neighbors with the lowest rank; undefined if no two can be merged.
   * @param {string[]} parts
   * @returns {string | undefined}
   */
  firstPair(parts) {
    const pairs = parts.slice(1).map((part, index) => `${parts[index]} ${part}`);
    const rank = (pair) => this.ranks.get(pair) ?? Infinity;
    const best = pairs.reduce((found, pair) => (rank(pair) < rank(found) ? pair : found), "");
    return best || undefined;
  }
}

/**
 * A text as SAM3 cleans it: characters repaired, HTML unescaped twice, white space collapsed, case lowered.
 *
 * Two repairs of Python's ftfy are missing: of text that was decoded in the wrong encoding ("cafÃ©"), and of names of
 * characters in capitals ("&EACUTE;").
 * @param {string} text
 * @returns {string}
 */
export function clean(text) {
  const repaired = PLAIN.test(text) ? text : unescapeHtml(unescapeHtml(repair(text)));
  return repaired.replace(SPACES, " ").trim().toLowerCase();
}

/** What ftfy's `fix_text` does, until nothing changes. */
function repair(text) {
  const strict = (reference) => {
    const character = unescapeHtml(reference);
    return character.includes(";") ? reference : character;
  };
  const unescaped = text.includes("<") ? text : text.replace(REFERENCE, strict);
  const fixed = unescaped
    .replace(C1_CONTROL, (control) => WINDOWS[control.charCodeAt(0) - 0x80])
    .replace(WIDE_OR_LIGATURE, (character) => character.normalize("NFKC"))
    .replace(/[\u02bc\u2018-\u201b]/g, "'")
    .replace(/[\u201c-\u201f]/g, '"')
    .toWellFormed()
    .replace(TERMINAL_ESCAPE, "")
    .replace(CONTROL, "")
    .normalize("NFC");
  return fixed === text ? fixed : repair(fixed);
}

/** Character references as an HTML parser reads them; outside a browser only numbers and the five names of XML. */
function unescapeHtml(text) {
  if (!text.includes("&")) {
    return text;
  }
  if (typeof document !== "undefined") {
    const area = document.createElement("textarea"); // nothing in it is markup
    area.innerHTML = text.replaceAll("<", "&lt;");
    return area.textContent;
  }
  const names = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'" };
  return text.replace(/&(?:#x([\da-f]{1,6})|#(\d{1,7})|(amp|lt|gt|quot|apos));?/gi, (whole, hex, decimal, name) =>
    name ? (names[name] ?? whole) : String.fromCodePoint(Math.min(hex ? parseInt(hex, 16) : +decimal, 0x10ffff)),
  );
}

/** The parts of a word with every occurrence of a pair joined. */
function merged(parts, pair) {
  const result = [];
  for (let index = 0; index < parts.length; index += 1) {
    const isPair = index + 1 < parts.length && `${parts[index]} ${parts[index + 1]}` === pair;
    result.push(isPair ? parts[index] + parts[index + 1] : parts[index]);
    index += isPair ? 1 : 0;
  }
  return result;
}

/** The printable character that stands for each byte: Latin-1's own where it prints, else one from U+0100 on. */
const ALPHABET = (() => {
  const prints = (byte) => (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte !== 0xad);
  let others = 0;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(prints(byte) ? byte : 256 + others++));
})();
