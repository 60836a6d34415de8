// From the network's probabilities to answers: mtface/inference/answers.py, in JavaScript.

/** One task's answer: { label, probabilities: { class: p } }, and of a task with values (ages) also
 * the value and the interval that holds `share` of the probability. */
export function answerOf({ classes, multiLabel, values }, probabilities, share) {
  const named = Object.fromEntries(classes.map((name, i) => [name, probabilities[i]]));
  if (multiLabel) return { label: null, probabilities: named };
  const label = classes[mostProbable(probabilities)];
  if (!values) return { label, probabilities: named };
  const value = expected(probabilities, values);
  return { label, probabilities: named, value, interval: interval(probabilities, values, share) };
}

function mostProbable(probabilities) {
  let best = 0;
  for (let i = 1; i < probabilities.length; i++) if (probabilities[i] > probabilities[best]) best = i;
  return best;
}

function expected(probabilities, values) {
  const whole = probabilities.reduce((sum, p) => sum + p, 0);
  return probabilities.reduce((sum, p, i) => sum + p * values[i], 0) / whole;
}

/** From the value below which (1 - share) / 2 of the probability lies to the one above which. */
function interval(probabilities, values, share) {
  const whole = probabilities.reduce((sum, p) => sum + p, 0);
  const quantile = (part) => {
    let sum = 0;
    const i = probabilities.findIndex((p) => (sum += p) >= part * whole);
    return values[i < 0 ? values.length - 1 : i];
  };
  return [quantile((1 - share) / 2), quantile((1 + share) / 2)];
}

/** A face as mtface predict prints it. */
export function faceJson({ box: [left, top, right, bottom], confidence, landmarks }, answers) {
  return { box: [left, top, right - left, bottom - top], confidence, landmarks, answers };
}
