// Compresses a face once, for networks whose training sets store JPEG. The browser does it: Chromium
// and Firefox use the same library as OpenCV (libjpeg-turbo), so that the pixels are equal.

import { fromRgba, toRgba } from './canvas.js';

/** The image as it is after JPEG of a quality from 1 to 100. */
export async function throughJpeg(image, quality) {
  const { width, height, channels } = image;
  const context = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true });
  context.putImageData(toRgba(image), 0, 0);
  const blob = await context.canvas.convertToBlob({ type: 'image/jpeg', quality: quality / 100 });
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: 'none' });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return fromRgba(context.getImageData(0, 0, width, height), channels);
}
