// Opens pages in headless Chromium as cases.json says, and writes what it saw as JSON on stdout:
// for each case the answers, the console's messages, and every address that was asked for.

import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';

const { chromium } = createRequire(process.env.MTFACE_PLAYWRIGHT + '/')('playwright-core');
const { chrome, camera, pages } = JSON.parse(readFileSync(process.env.MTFACE_CASES, 'utf8'));
const args = ['--no-sandbox', '--disable-gpu', '--use-fake-ui-for-media-stream'];
args.push('--use-fake-device-for-media-stream', `--use-file-for-fake-video-capture=${camera}`);
const browser = await chromium.launch({ executablePath: chrome, args });

/** Waits until the page's own status says something that matches. */
const status = (page, pattern) =>
  page.waitForFunction(
    (source) => new RegExp(source).test(document.getElementById('status').textContent),
    pattern,
    { timeout: 60_000 },
  );

/** Drops a file as a file manager does. */
async function drop(page, path) {
  const { x, y, width, height } = await page.locator('#drop').boundingBox();
  const session = await page.context().newCDPSession(page);
  const data = { items: [], files: [path], dragOperationsMask: 1 };
  for (const type of ['dragEnter', 'dragOver', 'drop']) {
    const place = { x: x + width / 2, y: y + height / 2 };
    await session.send('Input.dispatchDragEvent', { type, ...place, data });
  }
}

/** The widths of all bars of single classes, as shares of their tracks. */
const widths = (page) =>
  page.$$eval('#faces .bars .track', (tracks) =>
    tracks.map((track) => [
      track.closest('dd').previousSibling.textContent,
      track.firstChild.getBoundingClientRect().width / track.getBoundingClientRect().width,
      track.nextSibling.textContent,
    ]),
  );

/** As of pages that came by http from another machine. */
const withoutCameras = () => Object.defineProperty(navigator, 'mediaDevices', { value: undefined });

async function act(page, { drop: file, act }) {
  if (file) {
    await drop(page, file);
    await status(page, 'found in|not a picture');
  }
  if (act?.endsWith('camera')) {
    await page.locator('#camera').focus();
    await page.keyboard.press('Enter');
    await status(page, '[1-9] faces? found|does not run');
  }
  if (act === 'camera') {
    await page.keyboard.press('Enter');
  }
}

async function visit({ url, width = 1280, scheme = 'light', picture, ...todo }) {
  const viewport = { width, height: 900 };
  const context = await browser.newContext({ viewport, colorScheme: scheme });
  const [messages, requests] = [[], []];
  context.on('request', (request) => requests.push(request.url()));
  const page = await context.newPage();
  page.on('console', (message) => messages.push(message.text()));
  page.on('pageerror', (error) => messages.push(error.message));
  if (todo.act === 'no camera') await page.addInitScript(withoutCameras);
  await page.goto(url);
  await status(page, 'Ready|could not');
  await act(page, todo);
  await page.evaluate(() => document.querySelectorAll('#faces details').forEach((d) => (d.open = true)));
  const seen = {
    status: await page.textContent('#status'),
    faces: JSON.parse(await page.textContent('#json')),
    bars: await widths(page),
    tooWide: await page.evaluate(
      () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
    ),
    messages,
    requests,
  };
  if (picture) await page.screenshot({ path: picture, fullPage: true });
  await context.close();
  return seen;
}

const seen = [];
for (const page of pages) seen.push(await visit(page));
await browser.close();
console.log(JSON.stringify(seen));
