// What is seen: the picture with its boxes, and a card for each face.

import { kindOf, leastOf } from './answers.js';
import { toRgba } from './canvas.js';

const PLENTY = 8; // more classes than that are not all shown at once
const FIRST = 5; // but the most probable ones

/** Draws the picture and the boxes; the face with index `marked` stands out. */
export function drawPicture(canvas, picture, faces, marked = -1) {
  Object.assign(canvas, { width: picture.width, height: picture.height });
  const context = canvas.getContext('2d');
  context.drawImage(picture, 0, 0);
  // Of one width on the screen, whatever the size of the picture.
  const unit = picture.width / Math.max(canvas.clientWidth, 1);
  faces.forEach((face, i) => drawBox(context, face.box, String(i + 1), unit, i === marked));
  const count = faces.length === 1 ? '1 face' : `${faces.length} faces`;
  canvas.setAttribute('aria-label', `The picture, with ${count} found`);
}

/** A light line inside a dark one, so that it is seen on any picture, and by any eye. */
function drawBox(context, [x, y, width, height], name, unit, stands) {
  const thick = (stands ? 4 : 2) * unit;
  context.strokeStyle = '#00131f';
  context.lineWidth = thick + 3 * unit;
  context.strokeRect(x, y, width, height);
  context.strokeStyle = stands ? '#ffb000' : '#ffffff';
  context.lineWidth = thick;
  context.strokeRect(x, y, width, height);
  const side = 20 * unit;
  context.font = `bold ${14 * unit}px system-ui, sans-serif`;
  const wide = Math.max(side, context.measureText(name).width + 8 * unit);
  const top = Math.max(y - side, 0);
  context.fillStyle = '#00131f';
  context.fillRect(x - 2 * unit, top, wide, side);
  context.fillStyle = stands ? '#ffb000' : '#ffffff';
  context.textBaseline = 'middle';
  context.fillText(name, x + 2 * unit, top + side / 2);
}

/** The list of cards. `mark(i)` is called when a face is pointed at or focused, `mark(-1)` after. */
export function showFaces(list, faces, crops, { tasks, intervalShare }, mark) {
  const views = (face) => tasks.map((task) => taskView(task, face, intervalShare));
  list.replaceChildren(
    ...faces.map((face, i) => {
      const card = element('li', { className: 'card', tabIndex: 0 });
      card.append(heading(face, crops[i], i), ...views(face));
      for (const event of ['pointerenter', 'focusin']) card.addEventListener(event, () => mark(i));
      for (const event of ['pointerleave', 'focusout']) card.addEventListener(event, () => mark(-1));
      return card;
    }),
  );
}

function heading(face, crop, i) {
  const top = element('div', { className: 'top' });
  const words = element('div');
  words.append(
    element('h3', { textContent: `Face ${i + 1}` }),
    element('p', { className: 'small', textContent: `detector: ${percent(face.confidence)}` }),
  );
  top.append(thumbnail(crop, `Face ${i + 1} as the network sees it`), words);
  return top;
}

/** The network's input, enlarged by the style sheet. */
function thumbnail(crop, label) {
  const { width, height } = crop;
  const canvas = element('canvas', { width, height, className: 'crop' });
  canvas.setAttribute('role', 'img');
  canvas.setAttribute('aria-label', label);
  canvas.getContext('2d').putImageData(toRgba(crop), 0, 0);
  return canvas;
}

function taskView(task, face, share) {
  const answer = face.answers[task.name];
  const section = element('section');
  const title = element('h4', { textContent: words(task.name.replace(/\d+$/, '')) });
  title.append(' ', element('strong', { textContent: inWords(task, answer) }));
  section.append(title, ...(answer.interval ? ages(task, answer, share) : bars(task, answer)));
  return section;
}

function inWords(task, answer) {
  if (task.values) return `about ${Math.round(answer.value)}`;
  if (!task.multiLabel) return words(answer.label);
  const numbers = answer[kindOf(task.readout)];
  const there = task.classes.filter((name) => numbers[name] > leastOf(task.readout));
  return there.map(words).join(', ') || 'none';
}

/** A row for each class, most probable first where there are many; the rest on request. */
function bars(task, answer) {
  const many = task.classes.length > PLENTY;
  const rows = Object.entries(answer[kindOf(task.readout)]);
  if (many) rows.sort((one, other) => other[1] - one[1]);
  if (!many) return [table(rows, task)];
  const details = element('details');
  const summary = element('summary', { textContent: `${rows.length - FIRST} more` });
  details.append(summary, table(rows.slice(FIRST), task));
  return [table(rows.slice(0, FIRST), task), details];
}

/** Probabilities are bars and numbers; margins, which have no scale, are numbers. */
function table(rows, { readout }) {
  const list = element('dl', { className: 'bars' });
  for (const [name, number] of rows) {
    const value = element('dd');
    const text = readout === 'margins' ? number.toFixed(2) : percent(number);
    if (readout !== 'margins') value.append(bar(0, number));
    value.append(element('span', { textContent: text }));
    list.append(element('dt', { textContent: words(name) }), value);
  }
  return list;
}

/** A bar from one share of its track to another. */
function bar(start, end) {
  const track = element('span', { className: 'track' });
  track.setAttribute('aria-hidden', 'true'); // the number beside it says the same
  const fill = element('span', { className: 'fill' });
  fill.style.marginLeft = `${100 * start}%`;
  fill.style.width = `${100 * (end - start)}%`;
  track.append(fill);
  return track;
}

/** The interval on the scale of all values, and in words. */
function ages({ values }, { interval: [low, high] }, share) {
  const [first, last] = [values[0], values.at(-1)];
  const place = (value) => (value - first) / (last - first);
  const row = element('div', { className: 'scale' });
  row.append(
    element('span', { textContent: first }),
    bar(place(low), Math.max(place(high), place(low) + 0.01)),
    element('span', { textContent: last }),
  );
  const text = `${Math.round(100 * share)}% of the probability lies from ${low} to ${high}`;
  return [row, element('p', { className: 'small', textContent: text })];
}

const words = (name) => name.replaceAll('_', ' ');
const percent = (share) => `${(100 * share).toFixed(1)}%`;

function element(tag, properties = {}) {
  return Object.assign(document.createElement(tag), properties);
}
