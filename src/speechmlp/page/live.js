// Sends the samples of the microphone to the backend, piece by piece, and reports the recognised letters.
import { short } from "./microphone.js";

const PIECE = 0.05; // seconds of the shortest piece
const LARGEST = 5; // seconds of the longest, after the connection was slow
const KEPT = 60; // seconds of sound that can be played
const PATIENCE = 6; // seconds until a server that does not answer is given up
const SILENT = 8; // seconds without any sound
const ROOM = 0.15; // seconds around a letter that are played and drawn

export class Live {
  // Calls heard(answer) for each answer, and ended(sentence) once, when all is recognised or the server is given up.
  constructor(push, rate, heard, ended) {
    Object.assign(this, { push, rate, heard, ended, session: "", queue: [], waiting: 0, sent: 0, known: 0 });
    Object.assign(this, { blocks: [], first: 0, count: 0, silence: 0, busy: false, over: false, why: "", muted: false });
  }

  add(samples) {
    if (this.over) return;
    const heard = this.muted ? new Float32Array(samples.length) : samples;
    this.blocks.push(heard);
    this.count += heard.length;
    while (this.count - this.first > KEPT * this.rate) this.first += this.blocks.shift().length;
    this.queue.push(short(heard));
    this.waiting += heard.length;
    this.silence = heard.some((sample) => sample) ? 0 : this.silence + heard.length / this.rate;
    this.pump();
  }

  get silent() {
    return this.silence > SILENT && !this.muted;
  }

  stop(why = "") {
    // No more samples follow; what was said is recognised to its end.
    if (this.over) return;
    Object.assign(this, { over: true, why });
    this.pump();
  }

  sound(start, end) {
    // Returns the samples around a letter and its times in them; null if they are too old.
    const from = Math.max(0, Math.round((start - ROOM) * this.rate));
    const to = Math.min(this.count, Math.round((end + ROOM) * this.rate));
    if (from < this.first) return null;
    const samples = new Float32Array(to - from);
    let at = this.first;
    for (const block of this.blocks) {
      const [left, right] = [Math.max(from, at), Math.min(to, at + block.length)];
      if (left < right) samples.set(block.subarray(left - at, right - at), left - from);
      at += block.length;
    }
    return { samples, rate: this.rate, start: start - from / this.rate, end: end - from / this.rate };
  }

  async pump() {
    if (this.busy) return;
    this.busy = true;
    let end = false;
    while (!end && (this.over || this.waiting >= PIECE * this.rate)) {
      const piece = [];
      let size = 0;
      while (this.queue.length && size < LARGEST * this.rate) size += piece[piece.push(this.queue.shift()) - 1].length;
      this.waiting -= size;
      end = this.over && !this.queue.length;
      const { session, rate, sent: first, known } = this;
      const answer = await this.patiently(new Blob(piece), { session, rate, first, known, end });
      if (answer.error) {
        this.over = true;
        this.ended(answer.error);
        return; // stays busy: nothing follows
      }
      this.session = answer.session;
      this.sent += size;
      answer.letters = answer.letters.slice(this.known - answer.first);
      this.known += answer.letters.length;
      this.heard(answer);
    }
    this.busy = false;
    if (end) this.ended(this.why);
  }

  async patiently(body, options) {
    // Returns the answer to a piece, which is sent again for a while if the server does not answer.
    for (const since = performance.now(); ; ) {
      const answer = await this.push(body, options);
      if (!answer.lost || performance.now() - since > 1000 * PATIENCE) return answer;
      await new Promise((later) => setTimeout(later, 500));
    }
  }
}
