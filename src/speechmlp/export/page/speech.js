// The sounds of a recording, and which of them are voices: as speechmlp/audio/speech.py, whose numbers come in settings.
import { fourier } from "./fourier.js";

const sum = (values) => values.reduce((total, value) => total + value, 0);
const mean = (values) => sum(values) / values.length;

function deviation(values) {
  const middle = mean(values);
  return Math.sqrt(mean(values.map((value) => (value - middle) ** 2)));
}

function weighted(values, weights) {
  let total = 0;
  for (let i = 0; i < values.length; i += 1) total += values[i] * weights[i];
  return total;
}

class Analysis {
  // Powers of a waveform's frames, and its level above the steady noise.
  constructor(samples, { constants, tables }) {
    this.constants = constants;
    const { SIZE, HOP, QUIET } = constants;
    const middle = Math.fround(mean(samples));
    const centred = new Float32Array(Math.max(SIZE, samples.length));
    for (let i = 0; i < samples.length; i += 1) centred[i] = samples[i] - middle;
    const frames = Math.floor((centred.length - SIZE) / HOP) + 1;
    const cut = (frame) => {
      const part = new Float32Array(SIZE);
      if (frame < frames) for (let i = 0; i < SIZE; i += 1) part[i] = centred[frame * HOP + i] * tables.window[i];
      return part;
    };
    this.power = [];
    for (let frame = 0; frame < frames; frame += 2) this.power.push(...fourier(SIZE).powers(cut(frame), cut(frame + 1)));
    this.power.length = frames;
    const energy = this.power.map((power) => tables.inside.map((bins) => Math.fround(sum(bins.map((bin) => power[bin])))));
    const quiet = Math.floor(QUIET * frames);
    const bands = [...tables.inside.keys()];
    const noise = bands.map((band) => Math.fround(Float32Array.from(energy, (row) => row[band]).sort()[quiet] + 1e-7));
    this.noise = 10 * Math.log10(weighted(noise, tables.emphasis));
    this.excess = energy.map((row) => row.map((value, band) => Math.max(Math.fround(value - 2 * noise[band]), 1e-9)));
    this.level = Float32Array.from(this.excess, (row) => 10 * Math.log10(weighted(row, tables.emphasis)));
    const at = (frame) => this.level[Math.min(frames - 1, Math.max(0, frame))];
    this.smooth = this.level.map((level, frame) => Math.fround(at(frame - 1) + level + at(frame + 1)) / 3);
  }

  stretches() {
    // Returns first and last frame (not included) of each sound, in order.
    const { ABOVE, BELOW, DIP, MOST } = this.constants;
    const level = this.smooth;
    const count = level.length;
    const owner = new Int32Array(count).fill(-1);
    const above = new Map(); // the sound that took in another one
    const of = (frame) => {
      let sound = owner[frame];
      while (above.get(sound) !== sound) sound = above.get(sound);
      return sound;
    };
    for (const frame of [...level.keys()].sort((a, b) => level[b] - level[a])) {
      if (level[frame] < this.noise + ABOVE) break;
      const near = [frame - 1, frame + 1].filter((side) => side >= 0 && side < count && owner[side] >= 0).map(of);
      if (!near.length) {
        above.set(frame, frame);
        owner[frame] = frame;
        continue;
      }
      const higher = near.reduce((best, one) => (level[one] > level[best] ? one : best));
      const lower = near.reduce((best, one) => (level[one] < level[best] ? one : best));
      owner[frame] = higher;
      if (higher !== lower && level[lower] - level[frame] < DIP) above.set(lower, higher);
    }
    const peaks = [...above.keys()].filter((sound) => above.get(sound) === sound);
    const found = [];
    for (const peak of peaks.sort((a, b) => level[b] - level[a]).slice(0, MOST)) {
      const least = level[peak] - BELOW;
      const belongs = (frame) => frame >= 0 && frame < count && owner[frame] >= 0 && of(frame) === peak && level[frame] > least;
      let [first, last] = [peak, peak];
      while (belongs(first - 1)) first -= 1;
      while (belongs(last + 1)) last += 1;
      found.push([first, last + 1]);
    }
    return found.sort((a, b) => a[0] - b[0]);
  }
}

function measureFrame(power, excess, { constants, tables }) {
  // Measurements of a frame that belongs to a sound.
  const [shortest, longest] = constants.PITCH;
  const correlation = (lag) => {
    let total = (lag % 2 ? -1 : 1) * power[64];
    for (let k = 3; k < 64; k += 1) total += 2 * power[k] * Math.cos((Math.PI * k * lag) / 64);
    return total / 128;
  };
  const whole = Math.max(correlation(0), 1e-12);
  let periodic = -Infinity;
  for (let lag = shortest; lag < longest; lag += 1) periodic = Math.max(periodic, correlation(lag) / whole / tables.lags[lag]);
  const risen = power.map((value, bin) => value * tables.rise[bin]);
  const total = sum(risen) + 1e-12;
  const norm = Math.sqrt(sum(risen)) + 1e-12;
  const shape = risen.map((value) => Math.sqrt(value) / norm);
  const peaks = [0, 1].map(() => {
    const highest = risen.indexOf(Math.max(...risen));
    const bins = [-2, -1, 0, 1, 2].map((step) => Math.min(risen.length - 1, Math.max(0, highest + step)));
    const share = sum(bins.map((bin) => risen[bin])) / total;
    for (const bin of bins) risen[bin] = 0;
    return share;
  });
  const energy = excess.map((value, band) => value * tables.emphasis[band]);
  return { periodic, shape, line: peaks[0], lines: peaks[0] + peaks[1], energy, centre: weighted(energy, tables.centres) / sum(energy) };
}

function measure(analysis, each, first, last) {
  // Returns the measurements of one sound.
  const count = last - first;
  const smooth = [...analysis.smooth.subarray(first, last)];
  const peak = smooth.indexOf(Math.max(...smooth));
  const powers = [...analysis.level.subarray(first, last)].map((level) => 10 ** (level / 10));
  const total = sum(powers);
  const weight = powers.map((power) => power / total);
  const later = Math.min(4, count - 1);
  const both = weight.slice(later).map((value, i) => Math.min(value, weight[i]));
  const alike = both.map((_, i) => weighted(each[i + later].shape, each[i].shape));
  const bandCount = each[0].energy.length;
  const bands = Array.from({ length: bandCount }, (_, band) => 10 * Math.log10(mean(each.map(({ energy }) => energy[band]))));
  let cells = each.map(({ energy }) => energy.map((value) => 10 * Math.log10(value)));
  const loudest = Math.max(...cells.map((row) => Math.max(...row)));
  cells = cells.map((row) => row.map((value) => Math.max(value, loudest - 40)));
  const middle = Array.from({ length: bandCount }, (_, band) => mean(cells.map((row) => row[band])));
  const moving = cells.map((row) => row.map((value, band) => value - middle[band]));
  const changes = moving.map((row) => row.map((value) => (value - mean(row)) ** 2));
  const centre = each.map((frame) => frame.centre);
  const meanCentre = weighted(weight, centre);
  const tail = smooth.slice(peak);
  const strongest = Math.max(...bands);
  return Float32Array.of(
    Math.log(count),
    Math.log(smooth.filter((level) => level > smooth[peak] - 10).length),
    weighted(weight, each.map((frame) => frame.periodic)),
    Math.max(...each.map((frame) => frame.periodic)),
    weighted(weight, each.map((frame) => frame.line)),
    weighted(weight, each.map((frame) => frame.lines)),
    bands.filter((band) => band > strongest - 20).length,
    bands.filter((band) => band > strongest - 35).length,
    weighted(alike, both) / sum(both),
    sum(weight.slice(0, 3)),
    (peak + 0.5) / count,
    (tail[0] - tail[tail.length - 1]) / Math.max(1, tail.length - 1),
    meanCentre,
    Math.sqrt(weighted(weight, centre.map((value) => (value - meanCentre) ** 2))),
    smooth[peak] - analysis.noise,
    deviation(smooth),
    10 * Math.log10(mean(each.map(({ energy }) => mean(energy)))) - mean(cells.map(mean)),
    Math.sqrt(mean(changes.map(mean))),
  );
}

function judge(measured, weights) {
  // Returns the log-odds of voice, noise and other.
  const scaled = measured.map((value, i) => Math.min(4, Math.max(-4, (value - weights.mean[i]) / weights.deviation[i])));
  const hidden = weights.inner_bias.map((bias, j) => Math.tanh(bias + sum([...scaled].map((value, i) => value * weights.inner[i][j]))));
  const logits = weights.outer_bias.map((bias, k) => bias + sum(hidden.map((value, j) => value * weights.outer[j][k])));
  return logits.map((logit, k) => {
    const [a, b] = [logits[(k + 1) % 3], logits[(k + 2) % 3]];
    return logit - Math.max(a, b) - Math.log1p(Math.exp(-Math.abs(a - b)));
  });
}

export function findSounds(samples, settings) {
  // Returns the sounds of a waveform in order; none in silence or steady noise.
  const { SIZE, HOP } = settings.constants;
  const analysis = new Analysis(samples, settings);
  const frames = new Map(); // a frame may belong to two sounds
  const frame = (number) => {
    if (!frames.has(number)) frames.set(number, measureFrame(analysis.power[number], analysis.excess[number], settings));
    return frames.get(number);
  };
  return analysis.stretches().map(([first, last]) => {
    const each = Array.from({ length: last - first }, (_, i) => frame(first + i));
    const measured = measure(analysis, each, first, last);
    const [voice, noise, other] = judge(measured, settings.weights);
    const start = first === 0 ? 0 : first * HOP + SIZE / 2;
    const end = last === analysis.level.length ? samples.length : (last - 1) * HOP + SIZE / 2;
    const level = Math.max(...analysis.smooth.subarray(first, last));
    const core = Math.round(Math.exp(measured[1]));
    return { start, end: Math.max(end, start + HOP), level, core, lines: measured[5], periodic: measured[2], voice, noise, other };
  });
}
