import assert from 'node:assert/strict';
import test from 'node:test';
import * as pixels from '../../../mtface/publish/page/pixels.js';
import { cases, difference, toImage } from './cases.mjs';

for (const { name, call, args, image, expected, atMost, share } of cases) {
  test(name, () => {
    const found = pixels[call](toImage(image), ...args);
    assert.deepEqual(
      [found.width, found.height, found.channels],
      [expected.width, expected.height, expected.channels],
    );
    const { largest, count } = difference(found.data, expected.data);
    assert.ok(largest <= atMost, `largest difference ${largest}`);
    assert.ok(count <= share * found.data.length, `${count} of ${found.data.length} differ`);
  });
}
