// The tab that teaches the model a voice: asks for takes of each letter, adapts the model, and changes between both.
import { available, Microphone, Utterance } from "./microphone.js";

const POLL = 500; // milliseconds between questions while the model is adapted
const GIVE_UP = 3; // takes in a row without any sound

const at = (id) => document.getElementById(`teach-${id}`);

export class Teaching {
  // Calls changed() when another model answers.
  constructor(backend, changed) {
    Object.assign(this, { backend, changed, voice: null, letter: null, recording: null, last: null, silent: 0, asking: false });
    at("record").addEventListener("click", () => (this.recording ? this.stop("Stopped. Your takes are kept.") : this.start()));
    at("skip").addEventListener("click", () => this.ask(this.following()));
    at("remove").addEventListener("click", () => this.remove());
    at("adapt").addEventListener("click", () => this.change(this.backend.adapt()));
    at("cancel").addEventListener("click", () => this.change(this.backend.stop()));
    at("use").addEventListener("click", async () => {
      await this.change(this.backend.use(!this.voice.used));
      this.changed();
    });
  }

  async open() {
    // Shows the takes and the model as the server has them.
    await this.change(this.backend.state());
    if (this.voice && !this.recording) this.ask(this.next());
  }

  say(text) {
    if (at("status").textContent !== text) at("status").textContent = text;
  }

  next() {
    // Returns the letter with the fewest takes.
    const takes = Object.entries(this.voice.takes);
    return takes.reduce((least, one) => (one[1] < least[1] ? one : least))[0];
  }

  following() {
    // Returns the letter after this one that needs a take, so that one may be skipped.
    const labels = Object.keys(this.voice.takes);
    const order = [...labels.slice(labels.indexOf(this.letter) + 1), ...labels];
    return order.find((label) => this.voice.takes[label] < this.voice.wanted) ?? order[0];
  }

  ask(letter) {
    this.letter = letter;
    at("letter").textContent = letter;
    for (const button of at("takes").querySelectorAll("button")) button.toggleAttribute("aria-current", button.value === letter);
    const { recording } = this;
    if (recording) recording.utterance = new Utterance(recording.microphone.rate, () => this.complete());
  }

  async start() {
    if (!available()) {
      this.say(`This browser does not allow the microphone at this address; ${this.backend.secure}.`);
      return;
    }
    at("record").disabled = true;
    try {
      const block = (samples, level) => {
        at("level").style.width = `${Math.min(100, 300 * level)}%`;
        this.recording?.utterance?.add(samples, level);
      };
      const microphone = await Microphone.open(block, (sentence) => this.stop(`${sentence} Your takes are kept.`));
      this.recording = { microphone, utterance: null };
      this.silent = 0;
      at("record").textContent = "Stop";
      at("record").setAttribute("aria-pressed", "true");
      this.say(`Say ${this.letter}, and wait for the next letter.`);
      this.ask(this.letter);
    } catch (error) {
      this.say(error.name === "NotAllowedError" ? "The microphone is blocked; allow it in the browser." : "No microphone is available.");
    }
    at("record").disabled = false;
    at("record").focus();
  }

  stop(why = "") {
    if (!this.recording) return;
    this.recording.microphone.close();
    this.recording = null;
    at("level").style.width = 0;
    at("record").textContent = "Record";
    at("record").setAttribute("aria-pressed", "false");
    if (why) this.say(why);
  }

  async complete() {
    // Sends a take, and asks for the next one.
    const { recording, letter } = this;
    const sound = recording.utterance.wav();
    recording.utterance = null; // what is said until the next letter is shown does not count
    const found = await this.backend.take(sound, letter);
    if (found.error) {
      this.say(found.error);
      if (found.lost) this.stop();
    } else {
      this.show(found.voice);
      if (found.kept) this.last = letter;
      this.silent = found.kept ? 0 : this.silent + 1;
      this.say(sentence(letter, found));
    }
    if (this.recording !== recording) return;
    if (this.silent >= GIVE_UP) this.stop(`${GIVE_UP} takes in a row were not usable: ${found.advice[0]}. Press Record to go on.`);
    else if (this.isDone()) this.stop("There are enough takes of every letter. Adapt the model to them, or choose a letter to record more.");
    else this.ask(found.kept ? this.next() : letter);
  }

  isDone() {
    return Object.values(this.voice.takes).every((count) => count >= this.voice.wanted);
  }

  async remove() {
    const letter = this.last ?? this.letter;
    if (await this.change(this.backend.remove(letter))) {
      this.say(`Removed the last take of ${letter}.`);
      this.last = null;
      this.ask(letter);
    }
  }

  async change(answer) {
    // Shows the state that the server answers with; returns whether it did.
    const found = await answer;
    if (found.error !== undefined && found.takes === undefined) this.say(found.error);
    else this.show(found);
    return found.takes !== undefined;
  }

  show(voice) {
    const before = this.voice;
    this.voice = voice;
    at("folder").textContent = voice.folder;
    at("takes").replaceChildren(...Object.entries(voice.takes).map(([label, count]) => this.button(label, count)));
    const letters = Object.values(voice.takes).filter((count) => count).length;
    at("count").textContent = `${Object.values(voice.takes).reduce((sum, count) => sum + count, 0)} takes of ${letters} letters; ${voice.wanted} takes of each are best.`;
    at("remove").disabled = voice.adapting || !letters;
    at("adapt").disabled = voice.adapting || letters < voice.fewest;
    at("cancel").hidden = at("progress").hidden = !voice.adapting;
    at("progress").value = voice.fraction;
    at("result").textContent = voice.adapting ? `${voice.doing} …` : voice.error || (letters < voice.fewest ? `Record ${voice.fewest} letters or more first.` : "");
    at("lines").replaceChildren(
      ...voice.lines.map((line) => Object.assign(document.createElement("li"), { textContent: line })),
    );
    at("use").hidden = !voice.adapted;
    at("use").disabled = voice.adapting;
    at("use").textContent = voice.used ? "Use the original model again" : "Use the adapted model";
    if (before?.adapting && !voice.adapting) this.changed();
    if (voice.adapting) this.poll();
  }

  poll() {
    // Asks for the state until the model is adapted.
    if (this.asking) return;
    this.asking = true;
    setTimeout(async () => {
      this.asking = false;
      if (!(await this.change(this.backend.state())) && this.voice?.adapting) this.poll();
    }, POLL);
  }

  button(label, count) {
    const [item, button] = [document.createElement("li"), document.createElement("button")];
    Object.assign(button, { type: "button", value: label, textContent: `${label} ${count}` });
    button.setAttribute("aria-label", `${label}, ${count} of ${this.voice.wanted} takes`);
    button.classList.toggle("enough", count >= this.voice.wanted);
    button.toggleAttribute("aria-current", label === this.letter);
    button.addEventListener("click", () => this.ask(label));
    item.append(button);
    return item;
  }
}

function sentence(letter, { kept, advice, heard }) {
  // Says what became of a take.
  if (!kept) return `Not kept: ${advice[0]}. Say ${letter} again.`;
  const more = advice.length ? ` Note: ${advice[0]}.` : "";
  if (heard === letter) return `Kept ${letter}.${more}`;
  const doubt = heard === null ? "the model recognised no letter" : `the model recognised ${heard}`;
  return `Kept ${letter}; ${doubt}. If that is not what you said, press Remove the last take.${more}`;
}
