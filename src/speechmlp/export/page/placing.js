// The seconds of a recording that can hold a letter: as speechmlp/audio/placing.py, whose numbers come in settings.
import { filtered } from "./fourier.js";
import { withoutHum } from "./hum.js";
import { resample } from "./resampling.js";
import { roundEven } from "./rounding.js";
import { findSounds } from "./speech.js";

const highest = (group, key) => Math.max(...group.map((sound) => sound[key]));

function joined(sounds, constants, rate, bridged) {
  // Returns groups of sounds that may be one letter each, or longer speech: with a voice, or apart from all voices.
  const voiced = close(sounds.filter((sound) => sound.voice > 0), sounds, constants, rate, bridged);
  const taken = new Set(voiced.flat());
  const rest = sounds.filter((sound) => !taken.has(sound));
  return [...voiced, ...close(rest.filter((sound) => sound.other < constants.OTHER), rest, constants, rate, bridged)];
}

function close(seeds, sounds, constants, rate, bridged) {
  // Returns groups of seeds that are close to each other, with what is between them and belongs to them.
  const groups = [];
  for (const seed of seeds) {
    const group = groups[groups.length - 1];
    const end = group && group[group.length - 1].end;
    const louder = group ? seed.level - highest(group, "level") : 0;
    if (!group || (seed.start - end) / rate > bridged) groups.push([seed]);
    else if (louder > constants.FAINT) groups[groups.length - 1] = [seed];
    else if (louder >= -constants.FAINT) {
      group.push(...sounds.filter((one) => end < one.start && one.start < seed.start), seed);
    }
  }
  for (const group of groups) for (const direction of [-1, 1]) grow(group, sounds, direction, constants, rate, bridged);
  return groups;
}

function grow(group, sounds, direction, constants, rate, bridged) {
  // Adds friction and bursts that are close before, or after, a group.
  const { OTHER, TOUCHING, LASTING, TONAL, LOUDER, FAINT, PERIODIC, STEADY } = constants;
  const level = highest(group, "level");
  const first = group[0].start;
  const beyond = sounds.filter((sound) => (sound.start - first) * direction > 0 && !group.includes(sound));
  for (const sound of beyond.sort((a, b) => direction * (a.start - b.start))) {
    const edge = direction > 0 ? group[group.length - 1] : group[0];
    const gap = Math.max(0, direction > 0 ? sound.start - edge.end : edge.start - sound.end) / rate;
    const lasting = sound.core >= LASTING && sound.lines < TONAL;
    const buzzing = PERIODIC[0] < sound.periodic && sound.periodic < PERIODIC[1] && sound.core >= STEADY;
    const certain = gap <= TOUCHING ? 3 * OTHER : buzzing ? 0 : lasting ? 3 * OTHER : OTHER;
    if (gap > bridged || sound.other > certain) return;
    if (sound.level <= level - FAINT || sound.level >= level + LOUDER) return;
    if (direction > 0) group.push(sound);
    else group.unshift(sound);
  }
}

function findStretches(sounds, constants, rate, seconds) {
  // Returns what can be a letter, or another label of an input of some seconds, the most likely one first.
  const { SHORTEST, APART, WEAK, ALIKE } = constants;
  const longest = constants.LONGEST * seconds;
  const groups = joined(sounds, constants, rate, constants.BRIDGED * Math.max(1, seconds));
  const about = groups.map((group) => ({
    start: Math.min(...group.map((one) => one.start)),
    end: highest(group, "end"),
    level: highest(group, "level"),
    voice: highest(group, "voice"),
    voices: group.filter((one) => one.voice > 0 && one.level > highest(group, "level") - ALIKE).length,
  }));
  const loudest = Math.max(...about.map((one) => one.level));
  const found = [];
  for (const one of about) {
    const { start, end, level, voice, voices } = one;
    if (voice <= 0 && level < loudest - WEAK) continue;
    // Speech around it is against a stretch; noises, which may be anything, are not.
    const around = about.filter((other) => other !== one && other.voice > 0 && other.level > level - WEAK);
    const gaps = around.map((other) => Math.max(start - other.end, other.start - end) / rate);
    const apart = Math.min(APART, ...gaps);
    const length = (end - start) / rate;
    let score = Math.min(8, voice);
    score -= 12 * Math.max(0, length - longest) + 10 * (APART - apart) + 0.2 * (loudest - level);
    score -= 20 * Math.max(0, SHORTEST - length);
    found.push({ start, end, level, score, long: length > longest, voices });
  }
  return found.sort((a, b) => b.score - a.score);
}

function power(samples, start = 0, end = samples.length) {
  const part = samples.subarray(start, end);
  return part.reduce((total, value) => total + value * value, 0) / part.length;
}

function withoutRumble(samples, start, end, { LOW, STEEP, RUMBLE }, rate, strong = RUMBLE) {
  // Returns a waveform without offset and rumble if these are strong compared with the part from start to end.
  const size = samples.length;
  if (size < Math.floor(rate / 10)) return samples;
  const room = Math.min(size - 1, Math.floor(rate / 4));
  const padded = new Float32Array(Math.ceil((size + 2 * room) / 2048) * 2048);
  const period = 2 * (size - 1);
  for (let i = 0; i < padded.length; i += 1) {
    const at = (((i - room) % period) + period) % period;
    padded[i] = samples[at < size ? at : period - at]; // mirrored at both ends
  }
  const gain = (frequency) => Math.fround(1 / (1 + (LOW / Math.max(frequency * rate, 1)) ** STEEP));
  const clean = filtered(padded, gain).slice(room, room + size);
  const low = power(samples.map((value, i) => value - clean[i]));
  return low > 10 ** (strong / 10) * power(clean, start, end) ? clean : samples;
}

export class Placing {
  // The stretches of a recording that can be a letter, and the second of each of them.
  constructor(samples, settings) {
    this.constants = settings.placing;
    this.rate = settings.sample_rate;
    this.size = settings.num_samples;
    this.samples = withoutHum(samples, this.rate, settings.hum);
    const judged = settings.judged_rate;
    const same = this.rate === judged;
    const there = same ? this.samples : withoutHum(resample(samples, this.rate, judged, settings.resampling), judged, settings.hum);
    const clear = withoutRumble(there, 0, there.length, this.constants, judged, this.constants.MASKING);
    const sounds = findSounds(clear, settings.speech);
    const stretches = findStretches(sounds, this.constants, judged, this.size / this.rate);
    const scaled = (edge) => Math.min(samples.length, roundEven((edge * this.rate) / judged));
    const here = (span) => (same ? span : { ...span, start: scaled(span.start), end: scaled(span.end) });
    this.sounds = sounds.map(here);
    this.stretches = stretches.map(here);
  }

  second(number = 0) {
    // Returns the second of a stretch, or the loudest one if there are none, with its start in the recording.
    const length = this.samples.length;
    const { NEAR, ROOM } = this.constants;
    const centred = -Math.floor((this.size - length) / 2);
    if (!this.stretches.length) return this.cut(length > this.size ? this.loudest() : centred, 0, length, 0, length);
    const best = this.stretches[number];
    let first = Math.floor((best.start + best.end - this.size) / 2);
    if (best.end - best.start > this.size) first = best.start - roundEven(NEAR * this.rate);
    first = Math.min(Math.max(0, first), length - this.size);
    let [left, right] = this.undisturbed(best);
    if (length <= this.size) first = centred;
    else {
      left = Math.max(left, best.start - roundEven(ROOM * this.rate));
      right = Math.min(right, best.end + roundEven(ROOM * this.rate));
    }
    return this.cut(first, left, right, best.start, best.end);
  }

  loudest() {
    // Returns the start of the second with the most energy.
    const clean = withoutRumble(this.samples, 0, this.samples.length, this.constants, this.rate);
    const energy = new Float64Array(clean.length + 1);
    clean.forEach((value, i) => (energy[i + 1] = energy[i] + value * value));
    let best = 0;
    for (let i = 0; i + this.size < energy.length; i += 1) {
      if (energy[i + this.size] - energy[i] > energy[best + this.size] - energy[best]) best = i;
    }
    return best;
  }

  undisturbed(best) {
    // Returns start and end of a stretch with its surroundings, up to what disturbs it.
    const { WEAK, NEAR } = this.constants;
    const length = this.samples.length;
    let [before, after] = [0, length];
    for (const sound of this.sounds) {
      if (sound.level < best.level - WEAK || (sound.voice > -2 && sound.voice < 2)) continue;
      if (sound.end <= best.start) before = Math.max(before, sound.end);
      else if (sound.start >= best.end) after = Math.min(after, sound.start);
    }
    const room = roundEven(NEAR * this.rate);
    const left = before ? best.start - Math.min(room, Math.floor((best.start - before) / 2)) : 0;
    const right = after < length ? best.end + Math.min(room, Math.floor((after - best.end) / 2)) : after;
    return [left, right];
  }

  background(clean, origin) {
    // Returns noise of a pause of the recording, from its part `clean` that begins at `origin`, or a zero.
    const guard = roundEven((this.constants.QUIET / 2) * this.rate);
    const edges = [origin, ...this.sounds.flatMap((sound) => [sound.start, sound.end]), origin + clean.length];
    let quietest = null;
    for (let i = 0; i < edges.length; i += 2) {
      const pause = clean.subarray(Math.max(0, edges[i] + guard - origin), Math.max(0, edges[i + 1] - guard - origin));
      if (pause.length < 2 * guard) continue;
      const part = pause.subarray(0, Math.floor(this.rate / 4));
      if (!quietest || power(part) < power(quietest)) quietest = part;
    }
    return quietest ? Float32Array.of(...quietest, ...quietest.slice().reverse()) : new Float32Array(1);
  }

  cut(first, left, right, start, end) {
    // Returns the second from `first` on, with background outside `left` to `right`; the letter is start to end.
    const length = this.samples.length;
    const half = Math.floor(this.rate / 2);
    const origin = Math.max(0, first - half);
    const whole = this.samples.subarray(origin, Math.max(origin, first + this.size + half));
    const clean = withoutRumble(whole, Math.max(0, start - origin), Math.max(1, end - origin), this.constants, this.rate);
    const [here, stop] = [Math.max(0, first), Math.min(length, first + this.size)];
    const part = clean.slice(here - origin, stop - origin);
    if (left > here || right < stop) {
      const fade = this.constants.FADE * this.rate;
      const noise = this.background(clean, origin);
      const clipped = (value) => Math.min(1, Math.max(0, value));
      for (let i = 0; i < part.length; i += 1) {
        let kept = 1;
        if (left > here) kept *= clipped((here + i - left) / fade);
        if (right < stop) kept *= clipped((right - here - i) / fade);
        part[i] = kept * part[i] + (1 - kept) * noise[i % noise.length];
      }
    }
    const samples = new Float32Array(this.size);
    samples.set(part, here - first);
    return { samples, first };
  }
}
