// Pixels of a photograph or of a camera's frame: RGB, upright, transparent parts on white.

import { fromRgba } from './canvas.js';

/** Decodes an image file as mtface does: turned as its EXIF data says, colours as stored. */
export async function decode(file) {
  const options = { imageOrientation: 'from-image', colorSpaceConversion: 'none' };
  const bitmap = await createImageBitmap(file, options);
  const photo = pixelsOf(bitmap, bitmap.width, bitmap.height);
  bitmap.close();
  return photo;
}

/** RGB pixels of anything that a canvas can draw: { image, canvas }. */
export function pixelsOf(source, width, height) {
  const canvas = document.createElement('canvas');
  Object.assign(canvas, { width, height });
  const context = canvas.getContext('2d', { willReadFrequently: true, colorSpace: 'srgb' });
  context.fillStyle = 'white';
  context.fillRect(0, 0, width, height);
  context.drawImage(source, 0, 0, width, height);
  return { image: fromRgba(context.getImageData(0, 0, width, height), 3), canvas };
}

/** Starts a camera: a playing <video>, and what stops it. */
export async function openCamera() {
  if (!navigator.mediaDevices) throw new Error('browsers allow it on https and localhost only');
  const stream = await navigator.mediaDevices.getUserMedia({
    video: { width: { ideal: 640 }, height: { ideal: 480 } },
    audio: false,
  });
  const video = Object.assign(document.createElement('video'), { muted: true, playsInline: true });
  video.srcObject = stream;
  await video.play();
  return { video, stop: () => stream.getTracks().forEach((track) => track.stop()) };
}
