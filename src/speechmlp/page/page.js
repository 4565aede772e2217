// The page: listens to the microphone or takes files, and shows the answers of the backend.
import * as backend from "./backend.js";
import { Live } from "./live.js";
import { available, Microphone, play, Utterance } from "./microphone.js";
import { Teaching } from "./teach.js";
import * as word from "./word.js";

const BARS = 240; // of the waveform of a file
const LISTENING = "Say letters, one after another. Press Stop when you are done.";

const page = Object.fromEntries([...document.querySelectorAll("[id]")].map((element) => [element.id, element]));
let recording = null; // { microphone, utterance or live }
let ending = null; // what was recorded, while its last letters are recognised
let provisional = []; // letters that may still change
let waiting = []; // recordings that are not recognised yet: [sound, name]
let busy = false; // whether one is being recognised
let done = []; // what was found since all were done: [name, found]
let about = { max_bytes: Infinity };
let teaching = null; // the other tab, if there is one

function say(text) {
  if (page.status.textContent !== text) page.status.textContent = text;
}

async function recognise(sound, name) {
  // Returns what the backend found, or { error }.
  const limit = `${Math.round(about.max_bytes / 2 ** 20)} MB`;
  if (sound.size > about.max_bytes) return { error: `${name} is too large: expected at most ${limit}. One spoken letter is enough.` };
  try {
    await sound.slice(0, 1).arrayBuffer();
  } catch {
    return { error: `${name} cannot be read. Choose an audio file, not a folder.` };
  }
  return await backend.recognize(sound, name, BARS, page.judge.checked);
}

async function send(...recordings) {
  // Recognises one recording after the other, in their order; what was recorded comes before what was dropped meanwhile.
  waiting.push(...recordings);
  if (busy || recording?.utterance) return;
  busy = true;
  while (waiting.length && !recording?.utterance) {
    const [sound, name] = waiting.shift();
    say(done.length || waiting.length ? `Recognising ${name} …` : "Recognising …");
    const found = await recognise(sound, name);
    if (!found.error) word.add(found);
    done.push([name, found]);
  }
  busy = false;
  if (recording?.utterance) return; // what is left follows it
  say(done.length === 1 ? sentence(done[0][1]) : done.map(summary).join(" "));
  done = [];
}

function sentence(found) {
  if (found.error) return found.error;
  const nothing = "No letter was recognised with confidence. Say it again, or press the letter you meant.";
  const more = found.more ? " There seem to be more letters in the recording; say one at a time, or spell them with speechmlp predict --spell." : "";
  const note = found.note ? ` Note: ${found.note}.` : "";
  return (found.letter === null ? nothing : `Recognised ${found.letter}.`) + more + note;
}

function summary([name, found]) {
  if (found.error) return found.error.includes(name) ? found.error : `${name}: ${found.error}`;
  return `${name}: ${found.letter ?? "not a letter"}${found.more ? ", perhaps one of several" : ""}.`;
}

function heard(answer) {
  // Shows what was recognised of what is being said.
  const { live } = recording ?? ending;
  provisional = answer.provisional.map(({ letter }) => letter);
  for (const letter of answer.letters) word.add(letter, live.sound(letter.start, letter.end));
  page.provisional.textContent = provisional.join("");
  if (live.silent) say("There is no sound from the microphone. Is it muted, or is it another one?");
  else if (answer.rejected > live.rejected) say("That did not sound like a letter.");
  else if (answer.letters.length || page.status.textContent.startsWith("There is no sound")) say(LISTENING);
  live.rejected = answer.rejected;
}

function ended(why) {
  // All that was said is recognised, or nothing more can be.
  if (recording) close();
  ending = null;
  provisional = [];
  page.provisional.textContent = "";
  page.record.disabled = false;
  if (document.activeElement === document.body) page.record.focus(); // it had it before
  const kept = word.text() ? `Spelled: ${word.text()}.` : "No letter was recognised.";
  say(why ? `${why} ${kept}` : kept);
}

function close() {
  recording.microphone.close();
  page.level.style.width = 0;
  page.record.textContent = "Record";
  page.record.setAttribute("aria-pressed", "false");
  recording = null;
}

async function start() {
  if (!available()) {
    say(`This browser does not allow the microphone at this address; choose a file, or ${backend.secure}.`);
    return;
  }
  page.record.disabled = true;
  try {
    const lost = (sentence) => stop(sentence);
    const microphone = await Microphone.open((samples, level) => {
      page.level.style.width = `${Math.min(100, 300 * level)}%`;
      (recording?.live ?? recording?.utterance)?.add(samples, level);
    }, lost);
    recording = { microphone };
    if (backend.live) recording.live = Object.assign(new Live(backend.live, microphone.rate, heard, ended), { rejected: 0 });
    else recording.utterance = new Utterance(microphone.rate, () => stop());
    page.record.textContent = "Stop";
    page.record.setAttribute("aria-pressed", "true");
    say(recording.live ? LISTENING : "Say one letter.");
  } catch (error) {
    say(error.name === "NotAllowedError" ? "The microphone is blocked; allow it in the browser, or choose a file." : "No microphone is available; choose a file instead.");
  }
  page.record.disabled = false;
  page.record.focus();
}

function stop(why = "") {
  if (!recording) return;
  const { live, utterance } = recording;
  if (live) ending = recording;
  close();
  if (utterance) {
    waiting.unshift([utterance.wav(), "microphone.wav"]);
    send();
    if (why) say(why);
    return;
  }
  page.record.disabled = true; // until the last letters are there
  live.stop(why);
}

page.record.addEventListener("click", () => (recording ? stop() : start()));
function sendFiles(files) {
  send(...[...files].map((file) => [file, file.name]));
}

page.file.addEventListener("change", () => {
  sendFiles(page.file.files);
  page.file.value = ""; // the same file may be chosen again
});
function focusRecord() {
  if (!word.text()) page.record.focus(); // the pressed button is disabled now
}
page.backspace.addEventListener("click", () => {
  word.removeLast();
  focusRecord();
});
page.clear.addEventListener("click", () => {
  word.set([]);
  focusRecord();
});
page.delete.addEventListener("click", () => {
  word.remove();
  focusRecord();
});
page.play.addEventListener("click", async () => {
  const live = recording?.live;
  if (live) live.muted = true; // or the played letter would be spelled again
  await play(word.sound());
  setTimeout(() => live && (live.muted = false), 300);
});
page.copy.addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(word.text());
    say(`Copied ${word.text()}.`);
  } catch {
    say("The browser does not allow copying.");
  }
});
for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    document.body.classList.toggle("dropping", name === "dragover" || name === "dragenter");
    if (name !== "drop") return;
    if (event.dataTransfer.files.length) sendFiles(event.dataTransfer.files);
    else if (!recording) say("Drop an audio file.");
  });
}

async function offer() {
  // Offers words of the list that begin like what is spelled.
  const words = page.words.value.split(/\s+/).filter((one) => one);
  const spelled = word.text();
  const found = backend.offer && words.length && spelled ? await backend.offer(words, word.probabilities()) : [];
  if (spelled !== word.text()) return; // another request follows
  page.offers.hidden = !found.length;
  page.offers.replaceChildren(
    ...found.map(([name]) => {
      const [item, button] = [document.createElement("li"), document.createElement("button")];
      button.type = "button";
      button.textContent = name;
      button.addEventListener("click", () => {
        word.set([...name.toUpperCase()].filter((one) => about.labels.includes(one)));
        say(`Took ${name}.`);
        page.backspace.focus();
      });
      item.append(button);
      return item;
    }),
  );
}

function remember(name, value) {
  try {
    localStorage.setItem(name, value); // so that closing the page loses nothing
  } catch {} // not allowed in some private windows
}

function remembered(name) {
  try {
    return localStorage.getItem(name) ?? "";
  } catch {
    return "";
  }
}

page.words.value = remembered("words");
page.words.addEventListener("input", () => {
  remember("words", page.words.value);
  offer();
});
const rememberWord = () => remember("spelled", JSON.stringify([...word.labels(), ...provisional]));
window.addEventListener("pagehide", rememberWord);
word.onChange(() => {
  rememberWord();
  offer();
});
page.list.hidden = !backend.offer;
try {
  word.set(JSON.parse(remembered("spelled") || "[]"));
} catch {} // it was not written by this page
say(`Press Record and say ${backend.live ? "letters, one after another" : "one letter"}, or drop recordings here.`);

async function describe() {
  about = await backend.describe();
  page.judging.hidden = !about.judge;
  page.tabs.hidden = !about.voice;
  page.privacy.textContent = backend.privacy(about.voice);
  page.model.textContent = `Model ${about.model}, speechmlp ${about.speechmlp}.`;
  if (!about.voice || teaching) return;
  teaching = new Teaching(backend.voice, describe);
  page.recognise.setAttribute("role", "tabpanel");
  page.recognise.setAttribute("aria-labelledby", "tab-recognise");
  teaching.open(); // a model may be being adapted
}

function select(tab) {
  // Shows the panel of a tab; the microphone belongs to one of them.
  if (tab.getAttribute("aria-selected") === "true") return;
  stop();
  teaching.stop("Stopped. Your takes are kept.");
  for (const one of [page["tab-recognise"], page["tab-teach"]]) {
    one.setAttribute("aria-selected", one === tab);
    one.tabIndex = one === tab ? 0 : -1;
    page[one.getAttribute("aria-controls")].hidden = one !== tab;
  }
  if (tab === page["tab-teach"]) teaching.open();
}
for (const tab of [page["tab-recognise"], page["tab-teach"]]) {
  tab.addEventListener("click", () => select(tab));
  tab.addEventListener("keydown", ({ key }) => {
    if (key !== "ArrowLeft" && key !== "ArrowRight") return;
    const other = tab === page["tab-teach"] ? page["tab-recognise"] : page["tab-teach"];
    select(other);
    other.focus();
  });
}
describe();
