// What a network says of a face, in the form of mtface/inference/answers.py. A task is as in
// model.json: { name, output, classes, multiLabel, readout, values, top }.

const PRECISION = 1e6; // of numbers in JSON

/** One task's answer: { label, probabilities: { class: p } }, or margins in their place where a
 * squared hinge was learnt, and of ages the value and the interval that holds `share` of the
 * probability. */
export function answerOf({ classes, multiLabel, readout, values, top }, numbers, share) {
  const named = Object.fromEntries(classes.map((name, i) => [name, short(numbers[i])]));
  const best = mostProbable(numbers);
  const label = multiLabel ? null : classes[best];
  const answer = { label, [kindOf(readout)]: named };
  if (!values) return answer;
  if (readout === 'margins') return { ...answer, value: values[best], interval: null };
  const value = short(expected(numbers, values, top));
  return { ...answer, value, interval: interval(numbers, values, share) };
}

/** What the numbers of a task are. */
export const kindOf = (readout) => (readout === 'margins' ? 'margins' : 'probabilities');

/** From which on a class of a multi-label task is there. */
export const leastOf = (readout) => (readout === 'margins' ? 0 : 0.5);

/** A face as mtface predict prints it; a box is left, top, width and height. */
export function faceJson({ box: [left, top, right, bottom], confidence, landmarks }, answers) {
  const box = [left, top, right - left, bottom - top];
  return { box, confidence: short(confidence), landmarks, answers };
}

const short = (number) => Math.round(number * PRECISION) / PRECISION;

const sumOf = (numbers) => numbers.reduce((sum, number) => sum + number, 0);

function mostProbable(numbers) {
  return numbers.reduce((best, number, i) => (number > numbers[best] ? i : best), 0);
}

/** The mean of the `top` most probable values (Savchenko 2021, eq. 1). */
function expected(probabilities, values, top) {
  const order = probabilities.map((_, i) => i);
  const best = order.sort((i, j) => probabilities[j] - probabilities[i]).slice(0, top);
  return sumOf(best.map((i) => probabilities[i] * values[i])) / sumOf(best.map((i) => probabilities[i]));
}

/** The quantiles at (1 - share) / 2 and (1 + share) / 2; values ascend. */
function interval(probabilities, values, share) {
  const whole = sumOf(probabilities);
  return [(1 - share) / 2, (1 + share) / 2].map((part) => {
    let below = 0;
    const i = probabilities.findIndex((p) => (below += p) >= part * whole);
    return values[i < 0 ? values.length - 1 : i];
  });
}
