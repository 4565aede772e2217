// The mean of a recording's channels or one of them: as speechmlp/audio/channel_choice.py, whose numbers come in settings.
import { fourier } from "./fourier.js";

const sum = (values) => values.reduce((total, value) => total + value, 0);

function meanOf(channels) {
  return channels[0].map((_, i) => {
    let total = 0;
    for (const channel of channels) total = Math.fround(total + channel[i]);
    return total / channels.length;
  });
}

function clippedFraction(samples, { MIN_CLIPPED }) {
  // Returns the fraction of samples in runs of three or more at the highest or lowest value; 0 for a few.
  const middle = sum(samples) / samples.length;
  let [peak, away] = [0, 0];
  for (const value of samples) [peak, away] = [Math.max(peak, Math.abs(value)), Math.max(away, Math.abs(value - middle))];
  if (samples.length < 3 || away < 0.02) return 0;
  const least = Math.min(peak - 3e-5, 0.9999);
  let [run, count] = [0, 0];
  for (let i = 0; i <= samples.length; i += 1) {
    if (i < samples.length && Math.abs(samples[i]) >= least) run += 1;
    else {
      if (run >= 3) count += run;
      run = 0;
    }
  }
  return count >= MIN_CLIPPED ? count / samples.length : 0;
}

function quantile(values, fraction) {
  const sorted = Float32Array.from(values).sort();
  const place = fraction * (sorted.length - 1);
  const below = Math.floor(place);
  const above = Math.min(sorted.length - 1, below + 1);
  return sorted[below] + (place - below) * (sorted[above] - sorted[below]);
}

function split(count, parts) {
  // Returns the edges of as equal parts as possible, the longer ones first.
  const edges = [0];
  for (let part = 0; part < parts; part += 1) edges.push(edges[part] + Math.floor(count / parts) + (part < count % parts ? 1 : 0));
  return edges;
}

class Frames {
  // Powers of a signal's frames in the band of speech.
  constructor(signal, rate, { WINDOW, MAX_FRAMES, BAND, BANDS, FLOOR, ABOVE }) {
    const size = Math.max(16, Math.round(WINDOW * rate));
    const middle = sum(signal) / signal.length;
    const hop = Math.max(1, Math.floor(size / 2), Math.ceil((signal.length - size) / MAX_FRAMES));
    const count = Math.floor((Math.max(size, signal.length) - size) / hop) + 1;
    const window = Float64Array.from({ length: size }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / size));
    const cut = (frame) => window.map((weight, i) => (frame < count ? weight * ((signal[frame * hop + i] ?? middle) - middle) : 0));
    const bins = Array.from({ length: Math.floor(size / 2) + 1 }, (_, bin) => bin);
    let kept = bins.filter((bin) => (bin * rate) / size >= BAND[0] && (bin * rate) / size <= Math.min(BAND[1], 0.45 * rate));
    if (!kept.length) kept = bins.slice(1);
    this.frequencies = kept.map((bin) => (bin * rate) / size);
    this.powers = [];
    for (let frame = 0; frame < count; frame += 2) {
      for (const powers of fourier(size).powers(cut(frame), cut(frame + 1))) this.powers.push(kept.map((bin) => powers[bin]));
    }
    this.powers.length = count;
    const edges = split(kept.length, Math.min(BANDS, kept.length));
    this.bands = this.powers.map((row) => edges.slice(1).map((end, band) => sum(row.slice(edges[band], end))));
    const floor = edges.slice(1).map((_, band) => quantile(this.bands.map((row) => row[band]), FLOOR));
    this.speech = sum(this.bands.map((row) => sum(row.map((value, band) => Math.max(0, value - ABOVE * floor[band]))))) / count;
    this.noise = sum(floor);
  }
}

function coherence(spectra, frequencies) {
  // Returns the power of the mean (last) relative to the channels' in dB, averaged over log f.
  const mean = spectra[spectra.length - 1];
  const channels = mean.map((_, k) => sum(spectra.slice(0, -1).map((row) => row[k])) / (spectra.length - 1));
  const least = 1e-6 * Math.max(...channels);
  const weight = channels.map((value, k) => (value > least ? 1 / frequencies[k] : 0));
  const ratio = channels.map((value, k) => Math.min(1, Math.max(1e-2, mean[k] / Math.max(value, 1e-30))));
  return sum(ratio.map((value, k) => 10 * Math.log10(value) * weight[k])) / Math.max(1e-30, sum(weight));
}

function choose(channels, mean, rate, constants) {
  // Returns the channel with the clearest speech and why it is chosen; null if the mean keeps speech.
  const { FAINT, RARE, CANCELLED, CLIPPED, CLEAN, SAME, LOUD, COHERENT, NOISIER } = constants;
  const signals = [...channels, mean];
  const frames = signals.map((signal) => new Frames(signal, rate, constants));
  const speech = frames.map((one) => (one.speech > FAINT * one.noise ? one.speech : 0));
  const largest = Math.max(...speech.slice(0, -1));
  if (largest <= 0) {
    const power = signals.map((signal) => {
      const middle = sum(signal) / signal.length;
      return signal.reduce((total, value) => total + (value - middle) ** 2, 0) / signal.length;
    });
    const best = power.indexOf(Math.max(...power.slice(0, -1)));
    return power[channels.length] < CANCELLED * power[best] ? [best, "cancel each other"] : null;
  }
  const plateaus = channels.map((channel) => clippedFraction(channel, constants));
  const clean = plateaus.some((fraction, k) => speech[k] > RARE * largest && fraction < CLEAN);
  const distorted = clean && plateaus.some((fraction) => fraction > CLIPPED);
  const clarity = speech.map((value, k) => value / (frames[k].noise + RARE * largest));
  if (distorted) plateaus.forEach((fraction, k) => (clarity[k] = fraction < CLEAN ? speech[k] : 0));
  const clearest = Math.max(...clarity.slice(0, -1));
  const best = clarity.findIndex((value) => value >= SAME * clearest);
  if (distorted) return [best, "are not all clean: some are clipped"];
  const loud = frames[best].bands.map(sum);
  const middle = Float64Array.from(loud).sort()[Math.floor((loud.length - 1) / 2)];
  const least = Math.max(LOUD * Math.max(...loud), middle);
  const spectra = frames.map((one) => one.frequencies.map((_, k) => sum(one.powers.map((row, f) => (loud[f] >= least ? row[k] : 0)))));
  const together = coherence(spectra, frames[0].frequencies);
  if (together < COHERENT) return [best, `cancel each other: their mean is ${(-together).toFixed(1)} dB weaker`];
  if (clarity[channels.length] * NOISIER < clarity[best]) return [best, "are not all clean: some are noisy"];
  return null;
}

export function mix(channels, rate, constants) {
  // Returns one waveform, and a note if it is not the mean of all.
  if (channels.length === 1) return { samples: channels[0], note: "" };
  const mean = meanOf(channels);
  if (channels.every((channel) => channel.every((value, i) => value === channels[0][i]))) return { samples: mean, note: "" };
  const chosen = choose(channels, mean, rate, constants);
  if (!chosen) return { samples: mean, note: "" };
  const [channel, reason] = chosen;
  return { samples: channels[channel], note: `the channels ${reason}; only channel ${channel + 1} of ${channels.length} is used` };
}
