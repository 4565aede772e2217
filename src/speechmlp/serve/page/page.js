// The page: records a letter or takes a file, posts it to the server and shows the answer.
const BARS = 240; // of the waveform
const LONGEST = 6; // seconds of a recording from the microphone
const PAUSE = 0.6; // seconds of silence that end it
const QUIETEST = 0.01; // level that is never speech
const ABOVE = 4; // level of speech relative to the quietest moment

const at = (id) => document.getElementById(id);
const page = Object.fromEntries(
  ["record", "file", "level", "status", "answer", "letter", "ranked", "waveform", "place", "word", "backspace", "clear", "copy", "model"].map((id) => [id, at(id)]),
);
let word = "";
let appended = false; // whether the last answer is the word's last letter
let recording = null;
let about = { max_bytes: Infinity };

function say(text) {
  page.status.textContent = text;
}

function showWord() {
  page.word.textContent = word;
  for (const name of ["backspace", "clear", "copy"]) page[name].disabled = !word;
}

function take(letter) {
  word = (appended ? word.slice(0, -1) : word) + letter;
  appended = true;
  showWord();
}

function drawing(name, values) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(values)) element.setAttribute(key, value);
  return element;
}

function showWaveform({ waveform, seconds, start, end }) {
  const width = waveform.length;
  const loudest = Math.max(0.01, ...waveform);
  page.waveform.setAttribute("viewBox", `0 0 ${width} 100`);
  page.waveform.replaceChildren();
  if (start !== null) {
    const [left, right] = [start, end].map((time) => (time / seconds) * width);
    page.waveform.append(drawing("rect", { class: "inside", x: left, y: 0, width: right - left, height: 100 }));
  }
  waveform.forEach((peak, x) => {
    const height = Math.max(1, (peak / loudest) * 96);
    page.waveform.append(drawing("rect", { class: "sound", x: x + 0.15, y: 50 - height / 2, width: 0.7, height }));
  });
  const length = `${seconds.toFixed(2)} s`;
  page.place.textContent = start === null ? length : `Letter from ${start.toFixed(2)} to ${end.toFixed(2)} s of ${length}`;
  page.waveform.setAttribute("aria-label", `Waveform. ${page.place.textContent}`);
}

function showAnswer(found) {
  page.answer.hidden = false;
  page.letter.textContent = found.letter ?? "Not a letter";
  page.letter.classList.toggle("declined", found.letter === null);
  page.ranked.replaceChildren(
    ...found.ranked.map(([letter, probability]) => {
      const percent = `${(100 * probability).toFixed(1)} %`;
      const [item, button, bar, name, text] = ["li", "button", "span", "span", "span"].map((tag) => document.createElement(tag));
      button.type = "button";
      [bar.className, name.className, text.className] = ["bar", "name", "share"];
      bar.style.width = `${100 * probability}%`;
      [name.textContent, text.textContent] = [letter, percent];
      button.setAttribute("aria-label", `${letter}, ${percent}`);
      button.append(bar, name, text);
      button.addEventListener("click", () => take(letter));
      item.append(button);
      return item;
    }),
  );
  showWaveform(found);
  appended = false;
  if (found.letter !== null) take(found.letter);
  say(found.letter === null ? "No letter was recognised with confidence. Say it again, or press the letter you meant." : `Recognised ${found.letter}.`);
}

async function send(sound, name) {
  if (sound.size > about.max_bytes) {
    say(`${name} is too large: expected at most ${Math.round(about.max_bytes / 2 ** 20)} MB. One spoken letter is enough.`);
    return;
  }
  say("Recognising …");
  try {
    const query = new URLSearchParams({ name, waveform: BARS });
    const response = await fetch(`api/recognize?${query}`, { method: "POST", body: sound });
    const found = await response.json();
    if (response.ok) showAnswer(found);
    else say(found.error);
  } catch {
    say("The server does not answer. Is it still running?");
  }
}

function wav(blocks, rate) {
  const count = blocks.reduce((sum, block) => sum + block.length, 0);
  const view = new DataView(new ArrayBuffer(44 + 2 * count));
  const text = (offset, letters) => [...letters].forEach((letter, i) => view.setUint8(offset + i, letter.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + 2 * count, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, 1, true); // channel
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, 2 * count, true);
  let offset = 44;
  for (const block of blocks) {
    for (const sample of block) {
      view.setInt16(offset, Math.max(-32768, Math.min(32767, Math.round(32768 * sample))), true);
      offset += 2;
    }
  }
  return new Blob([view], { type: "audio/wav" });
}

class Recording {
  // Collects samples until a pause after speech, the longest time, or stop().
  constructor(stream, context) {
    Object.assign(this, { stream, context, blocks: [], level: 0, quietest: Infinity, speech: 0, pause: 0, seconds: 0 });
    this.node = new AudioWorkletNode(context, "capture", { numberOfOutputs: 0 });
    this.node.port.onmessage = ({ data }) => this.add(data);
    context.createMediaStreamSource(stream).connect(this.node);
  }

  add(block) {
    this.blocks.push(block);
    const seconds = block.length / this.context.sampleRate;
    this.seconds += seconds;
    const power = block.reduce((sum, sample) => sum + sample * sample, 0) / block.length;
    this.level += (Math.sqrt(power) - this.level) * Math.min(1, seconds / 0.02);
    if (this.seconds > 0.1) this.quietest = Math.min(this.quietest, this.level);
    page.level.style.width = `${Math.min(100, 300 * this.level)}%`;
    if (this.level > Math.max(QUIETEST, ABOVE * this.quietest)) [this.speech, this.pause] = [this.speech + seconds, 0];
    else this.pause += seconds;
    if ((this.speech > 0.05 && this.pause > PAUSE) || this.seconds > LONGEST) stop();
  }

  end() {
    this.node.port.onmessage = null;
    this.stream.getTracks().forEach((track) => track.stop());
    this.context.close();
    page.level.style.width = 0;
    return wav(this.blocks, this.context.sampleRate);
  }
}

async function start() {
  if (!navigator.mediaDevices || !window.AudioWorkletNode) {
    say("This browser does not allow the microphone at this address; choose a file, or open the page on the machine that serves it.");
    return;
  }
  page.record.disabled = true;
  try {
    const plain = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    const stream = await navigator.mediaDevices.getUserMedia({ audio: plain });
    const context = new AudioContext();
    await context.audioWorklet.addModule("capture.js");
    recording = new Recording(stream, context);
    await context.resume();
    page.record.textContent = "Stop";
    page.record.setAttribute("aria-pressed", "true");
    say("Say one letter.");
  } catch (error) {
    say(error.name === "NotAllowedError" ? "The microphone is blocked; allow it in the browser, or choose a file." : "No microphone is available; choose a file instead.");
  }
  page.record.disabled = false;
  page.record.focus();
}

function stop() {
  if (!recording) return;
  const sound = recording.end();
  recording = null;
  page.record.textContent = "Record";
  page.record.setAttribute("aria-pressed", "false");
  send(sound, "microphone.wav");
}

page.record.addEventListener("click", () => (recording ? stop() : start()));
page.file.addEventListener("change", async () => {
  const [chosen] = page.file.files;
  if (chosen) await send(chosen, chosen.name);
  page.file.value = ""; // the same file may be chosen again
});
page.backspace.addEventListener("click", () => {
  word = word.slice(0, -1);
  appended = false;
  showWord();
  if (!word) page.record.focus();
});
page.clear.addEventListener("click", () => {
  word = "";
  appended = false;
  showWord();
  page.record.focus();
});
page.copy.addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(word);
    say(`Copied ${word}.`);
  } catch {
    say("The browser does not allow copying.");
  }
});
for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    document.body.classList.toggle("dropping", name === "dragover" || name === "dragenter");
    if (name === "drop" && event.dataTransfer.files.length) send(event.dataTransfer.files[0], event.dataTransfer.files[0].name);
  });
}

fetch("api")
  .then((response) => response.json())
  .then((found) => {
    about = found;
    page.model.textContent = `Model ${about.model}, speechmlp ${about.speechmlp}.`;
  });
