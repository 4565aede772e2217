// The word: its letters with what else they may be, the chosen one of them, and words that begin like it.
const at = (id) => document.getElementById(id);
const BARS = 240; // of a waveform
const UNSURE = 0.7; // probability of a letter under which it is marked

let letters = []; // { letter, ranked, probabilities, view, sound }
let chosen = -1; // the letter that is shown below and that a guess replaces; -1: none
let changed = () => {};

export const labels = () => letters.map(({ letter }) => letter);
const between = () => (labels().some((label) => label.length > 1) ? " " : "");
export const text = () => labels().join(between());
export const probabilities = () => letters.map((one) => one.probabilities);
export const sound = () => letters[chosen]?.sound ?? null;

export function onChange(then) {
  changed = then;
}

function show() {
  const word = at("word");
  letters.forEach(({ letter, ranked }, index) => {
    const button = word.children[index] ?? word.appendChild(document.createElement("button"));
    button.type = "button";
    const name = index ? between() + letter : letter;
    if (button.textContent !== name) button.textContent = name; // screen readers read what changes
    const sure = !ranked || ranked[0][0] !== letter || ranked[0][1] >= UNSURE;
    button.className = sure ? "" : "unsure";
    button.title = sure ? "" : `perhaps ${ranked[1][0]}`;
    button.onclick = () => choose(index);
    if (index === chosen) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  });
  while (word.children.length > letters.length) word.lastChild.remove();
  for (const name of ["backspace", "clear", "copy"]) at(name).disabled = !letters.length;
  changed();
}

function drawing(name, values) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(values)) element.setAttribute(key, value);
  return element;
}

function showWaveform({ waveform, seconds, start, end }) {
  const width = waveform.length;
  const loudest = Math.max(0.01, ...waveform);
  at("waveform").setAttribute("viewBox", `0 0 ${width} 100`);
  at("waveform").replaceChildren();
  if (start !== null) {
    const [left, right] = [start, end].map((time) => (time / seconds) * width);
    at("waveform").append(drawing("rect", { class: "inside", x: left, y: 0, width: right - left, height: 100 }));
  }
  waveform.forEach((peak, x) => {
    const height = Math.max(1, (peak / loudest) * 96);
    at("waveform").append(drawing("rect", { class: "sound", x: x + 0.15, y: 50 - height / 2, width: 0.7, height }));
  });
  const length = `${seconds.toFixed(2)} s`;
  at("place").textContent = start === null ? length : `Letter from ${start.toFixed(2)} to ${end.toFixed(2)} s of ${length}`;
  at("waveform").setAttribute("aria-label", `Waveform. ${at("place").textContent}`);
}

function guess([letter, probability]) {
  const percent = `${(100 * probability).toFixed(1)} %`;
  const [item, button, bar, name, value] = ["li", "button", "span", "span", "span"].map((tag) => document.createElement(tag));
  button.type = "button";
  [bar.className, name.className, value.className] = ["bar", "name", "share"];
  bar.style.width = `${100 * probability}%`;
  [name.textContent, value.textContent] = [letter, percent];
  button.setAttribute("aria-label", `${letter}, ${percent}`);
  button.append(bar, name, value);
  button.addEventListener("click", () => take(letter));
  item.append(button);
  return item;
}

function showLetter({ letter, ranked, view, sound }) {
  at("answer").hidden = !ranked;
  if (!ranked) return;
  at("letter").textContent = letter ?? "Not a letter";
  at("letter").classList.toggle("declined", letter === null);
  at("ranked").replaceChildren(...ranked.map(guess));
  at("play").hidden = !sound;
  at("delete").hidden = letter === null;
  if (view) showWaveform(view);
}

function choose(index) {
  chosen = index;
  if (letters[index]) showLetter(letters[index]);
  else at("answer").hidden = true;
  show();
}

function take(letter) {
  // Takes a letter instead of the chosen one, or after the last one.
  const one = { ...(letters[chosen] ?? {}), letter, probabilities: { [letter]: 1 } };
  if (chosen < 0) chosen = letters.length;
  letters[chosen] = one;
  if (one.ranked) at("letter").textContent = letter;
  at("letter").classList.remove("declined");
  at("delete").hidden = false;
  show();
}

export function add(found, sound = null) {
  // Appends what was recognised, and shows it unless another letter is chosen.
  const { letter, ranked, probabilities } = found;
  const view = found.waveform ? found : sound && { ...sound, waveform: bars(sound.samples), seconds: sound.samples.length / sound.rate };
  const one = { letter, ranked, probabilities, view, sound };
  const follows = chosen < 0 || chosen === letters.length - 1;
  if (letter === null) chosen = -1;
  else letters.push(one);
  if (letter !== null && follows) chosen = letters.length - 1;
  if (letter === null || follows) showLetter(one);
  show();
}

export function set(labels) {
  // Replaces everything by these letters.
  letters = labels.map((letter) => ({ letter, probabilities: { [letter]: 1 } }));
  choose(-1);
}

export function remove(index = chosen) {
  letters.splice(index, 1);
  choose(letters.length - 1);
}

export const removeLast = () => remove(letters.length - 1);

function bars(samples) {
  return Array.from({ length: BARS }, (_, bar) => {
    const part = samples.subarray(Math.floor((bar * samples.length) / BARS), Math.ceil(((bar + 1) * samples.length) / BARS));
    return part.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);
  });
}
