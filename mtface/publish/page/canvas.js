// Images to and from what a canvas holds, RGBA.

import { makeImage } from './pixels.js';

/** An image of 1 or 3 channels as a canvas takes it. */
export function toRgba({ data, width, height, channels }) {
  const pixels = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++) pixels.data[4 * i + c] = data[i * channels + (channels > 1 ? c : 0)];
    pixels.data[4 * i + 3] = 255;
  }
  return pixels;
}

/** The first 1 or 3 channels of what a canvas gives. */
export function fromRgba({ data, width, height }, channels) {
  const out = new Uint8Array(width * height * channels);
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < channels; c++) out[i * channels + c] = data[4 * i + c];
  }
  return makeImage(out, width, height, channels);
}
