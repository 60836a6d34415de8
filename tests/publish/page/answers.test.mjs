import assert from 'node:assert/strict';
import test from 'node:test';
import { answerOf, faceJson } from '../../../mtface/publish/page/answers.js';
import { cases } from './cases.mjs';

/** The same in the same order, but for the last digit that is shown. */
function isClose(found, expected, place) {
  if (typeof expected === 'number') {
    assert.ok(Math.abs(found - expected) < 1.5e-6, `${place}: ${found}, not ${expected}`);
  } else if (expected === null || typeof expected !== 'object') {
    assert.equal(found, expected, place);
  } else {
    assert.deepEqual(Object.keys(found), Object.keys(expected), place);
    for (const key of Object.keys(expected)) isClose(found[key], expected[key], `${place}.${key}`);
  }
}

for (const { name, task, numbers, expected } of cases.answers) {
  test(name, () => isClose(answerOf(task, numbers, cases.share), expected, name));
}

test('a face', () => {
  const { detection, expected } = cases.face;
  isClose(faceJson(detection, {}), expected, 'face');
});
