// Pixels as OpenCV 5 computes them, so that the networks see here what they see in Python. An image
// is { data, width, height, channels }, rows of pixels of interleaved channels; data is a Uint8Array
// of 0 to 255, or a Float64Array.
//
// tests/publish/test_page_pixels.py compares each function with cv2's.

const BITS = 11; // of the fixed-point weights of cv2.resize with INTER_LINEAR
const SCALE = 1 << BITS;

export function makeImage(data, width, height, channels) {
  return { data, width, height, channels };
}

/** RGB to grey, by the weights of cv2.cvtColor (0.299, 0.587, 0.114 in 15 bits). */
export function toGrey({ data, width, height }) {
  const grey = new Uint8Array(width * height);
  for (let i = 0, j = 0; i < grey.length; i++, j += 3) {
    grey[i] = (9798 * data[j] + 19235 * data[j + 1] + 3735 * data[j + 2] + 16384) >> 15;
  }
  return makeImage(grey, width, height, 1);
}

/** The part of an image from (left, top); what is outside the image is 0. Keeps the data's type. */
export function cutOut(image, left, top, width, height) {
  const { data, channels } = image;
  const out = new data.constructor(width * height * channels);
  const from = Math.max(left, 0);
  const to = Math.min(left + width, image.width);
  for (let y = Math.max(top, 0); y < Math.min(top + height, image.height) && from < to; y++) {
    const row = data.subarray((y * image.width + from) * channels, (y * image.width + to) * channels);
    out.set(row, ((y - top) * width + from - left) * channels);
  }
  return makeImage(out, width, height, channels);
}

/** To the nearest whole number, halves to the even one. */
function rounded(x) {
  const up = Math.round(x);
  return up - x === 0.5 && up % 2 !== 0 ? up - 1 : up;
}

/** cv2.resize with INTER_AREA: averages over the area of a pixel; where either side grows, weights
 * of the neighbours instead. */
export function resizeArea(image, width, height) {
  if (width === image.width && height === image.height) return image;
  if (width > image.width || height > image.height) {
    return weighted(image, enlarging(image.width, width), enlarging(image.height, height));
  }
  const [across, down] = [scaleOf(image.width, width), scaleOf(image.height, height)];
  if (image.data instanceof Uint8Array && isWhole(across) && isWhole(down)) {
    return averageBlocks(image, width, height, Math.round(across), Math.round(down));
  }
  return weighted(image, shrinking(image.width, width), shrinking(image.height, height));
}

// By OpenCV's two divisions: 300 / 100 is 3, but 1 / (100 / 300) may not be.
const scaleOf = (length, size) => 1 / (size / length);
const isWhole = (scale) => Math.abs(scale - Math.round(scale)) < Number.EPSILON;

/** Means of blocks of whole pixels: OpenCV rounds halves up in blocks of 2 x 2, else to even. */
function averageBlocks(image, width, height, across, down) {
  const { data, channels } = image;
  const out = new Uint8Array(width * height * channels);
  const share = Math.fround(1 / (across * down));
  const quarter = across === 2 && down === 2;
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let c = 0; c < channels; c++, i++) {
        let sum = 0;
        for (let v = 0; v < down; v++) {
          let j = ((y * down + v) * image.width + x * across) * channels + c;
          for (let u = 0; u < across; u++, j += channels) sum += data[j];
        }
        out[i] = quarter ? (sum + 2) >> 2 : rounded(Math.fround(sum * share));
      }
    }
  }
  return makeImage(out, width, height, channels);
}

/** For each of `size` pixels: the first of `length` that it covers, and the share of each. */
function shrinking(length, size) {
  const scale = scaleOf(length, size);
  return Array.from({ length: size }, (_, i) => {
    const start = i * scale;
    const whole = Math.min(scale, length - start);
    const last = Math.min(Math.floor(start + scale), length - 1);
    const first = Math.min(Math.ceil(start), last);
    const shares = new Array(last - first).fill(1 / whole);
    const before = first - start > 1e-3; // a sliver of a pixel is left out
    if (before) shares.unshift((first - start) / whole);
    const after = start + scale - last;
    if (after > 1e-3) shares.push(Math.min(after, 1, whole) / whole);
    return { first: before ? first - 1 : first, shares: Float32Array.from(shares) };
  });
}

/** The same where `size` is larger: a pixel and the next, by how far the next reaches into it. */
function enlarging(length, size) {
  const scale = scaleOf(length, size);
  return Array.from({ length: size }, (_, i) => {
    const first = Math.min(Math.floor(i * scale), length - 1);
    const reach = i + 1 - (first + 1) * (size / length);
    const next = first === length - 1 || reach <= 0 ? 0 : Math.fround(reach - Math.floor(reach));
    return { first, shares: Float32Array.from(next ? [1 - next, next] : [1]) };
  });
}

/** Weighted sums, first along rows, then down columns: in 32 bits for bytes, which are rounded. */
function weighted(image, across, down) {
  const { data, channels } = image;
  const width = across.length;
  const exact = data instanceof Float64Array;
  const out = new data.constructor(width * down.length * channels);
  const sums = exact ? new Float64Array(width * channels) : new Float32Array(width * channels);
  const row = rowSummer(image, across, exact);
  down.forEach(({ first, shares }, y) => {
    sums.fill(0);
    shares.forEach((share, v) => {
      const values = row(first + v);
      if (exact) for (let i = 0; i < sums.length; i++) sums[i] += share * values[i];
      else for (let i = 0; i < sums.length; i++) sums[i] += Math.fround(share * values[i]);
    });
    out.set(exact ? sums : sums.map(rounded), y * sums.length);
  });
  return makeImage(out, width, down.length, channels);
}

/** Sums along one row of the image; two results share a row at most, so the last one is kept. */
function rowSummer({ data, width, channels }, across, exact) {
  const values = exact
    ? new Float64Array(across.length * channels)
    : new Float32Array(across.length * channels);
  let kept = -1;
  return (y) => {
    if (y === kept) return values;
    kept = y;
    values.fill(0);
    across.forEach(({ first, shares }, x) => {
      let j = (y * width + first) * channels;
      for (let u = 0; u < shares.length; u++) {
        for (let c = 0; c < channels; c++, j++) {
          const part = shares[u] * data[j];
          values[x * channels + c] += exact ? part : Math.fround(part);
        }
      }
    });
    return values;
  };
}

/** cv2.resize with INTER_LINEAR, of bytes: its 11-bit weights, and what its sums cut off. */
export function resizeLinear(image, width, height) {
  if (width === image.width && height === image.height) return image;
  const { data, channels } = image;
  const across = fixedPoint(image.width, width, true);
  const down = fixedPoint(image.height, height, false);
  const out = new Uint8Array(width * height * channels);
  const along = (y, { here, next, a, b }, c) => {
    const row = y * image.width;
    return a * data[(row + here) * channels + c] + b * data[(row + next) * channels + c];
  };
  let i = 0;
  for (const { here, next, a, b } of down) {
    for (const column of across) {
      for (let c = 0; c < channels; c++, i++) {
        const upper = (a * (along(here, column, c) >> 4)) >> 16;
        const lower = (b * (along(next, column, c) >> 4)) >> 16;
        out[i] = (upper + lower + 2) >> 2;
      }
    }
  }
  return makeImage(out, width, height, channels);
}

/** For each of `size` pixels: the two of `length` that it lies between, and their weights of 2^11.
 * Beyond the edge OpenCV gives the whole weight to the outermost pixel in x, and counts it twice
 * in y, which it rounds differently. */
function fixedPoint(length, size, whole) {
  return Array.from({ length: size }, (_, i) => {
    const place = Math.fround((i + 0.5) * scaleOf(length, size) - 0.5);
    const here = Math.floor(place);
    const outside = whole && (here < 0 || here >= length - 1);
    const share = outside ? 0 : Math.fround(place - here);
    return {
      here: Math.min(Math.max(here, 0), length - 1),
      next: Math.min(Math.max(here + 1, 0), length - 1),
      a: rounded(Math.fround(Math.fround(1 - share) * SCALE)),
      b: rounded(Math.fround(share * SCALE)),
    };
  });
}

/** cv2.warpAffine with INTER_LINEAR and BORDER_REPLICATE, of bytes: positions and sums of 32 bits,
 * along a row each product rounded together with the sum that it goes into.
 *
 * matrix: [[a, b, c], [d, e, f]], from pixels of the image to those of the result. */
export function warpAffine(image, matrix, width, height) {
  const { data, channels } = image;
  const [[a, b, c], [d, e, f]] = inverse(matrix).map((row) => row.map(Math.fround));
  const out = new Uint8Array(width * height * channels);
  for (let y = 0, i = 0; y < height; y++) {
    const startX = Math.fround(Math.fround(b * y) + c);
    const startY = Math.fround(Math.fround(e * y) + f);
    for (let x = 0; x < width; x++) {
      const u = Math.fround(a * x + startX);
      const v = Math.fround(d * x + startY);
      const [right, below] = [u - Math.floor(u), v - Math.floor(v)];
      const corners = cornersAt(image, Math.floor(u), Math.floor(v));
      for (let k = 0; k < channels; k++, i++) {
        const upper = between(data[corners[0] + k], data[corners[1] + k], right);
        const lower = between(data[corners[2] + k], data[corners[3] + k], right);
        out[i] = rounded(between(upper, lower, below));
      }
    }
  }
  return makeImage(out, width, height, channels);
}

const between = (one, other, share) => Math.fround(Math.fround(other - one) * share + one);

/** Where the pixel (u, v), and those right of, below, and right below it begin; edges repeat. */
function cornersAt({ width, height, channels }, u, v) {
  const inside = (value, length) => Math.min(Math.max(value, 0), length - 1);
  const [left, right] = [inside(u, width), inside(u + 1, width)];
  const [top, bottom] = [inside(v, height) * width, inside(v + 1, height) * width];
  return [top + left, top + right, bottom + left, bottom + right].map((at) => at * channels);
}

function inverse([[a, b, c], [d, e, f]]) {
  const share = 1 / (a * e - b * d);
  const [p, q, r, s] = [e * share, -b * share, -d * share, a * share];
  return [
    [p, q, -p * c - q * f],
    [r, s, -r * c - s * f],
  ];
}
