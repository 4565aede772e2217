// From a recording to its letter: as speechmlp/recognition/recognizer.py, whose numbers come in settings.
import { mix } from "./channels.js";
import { Placing } from "./placing.js";
import { resample } from "./resampling.js";
import { roundEven } from "./rounding.js";

function logOdds(probability) {
  return Math.log(probability + 1e-6) - Math.log(1 - probability + 1e-6);
}

export function findSeconds(samples, settings) {
  // Returns the seconds of a recording that the model reads, the most likely one first.
  const { RIVALS, CLOSE } = settings.recognizer;
  const placing = new Placing(samples, settings);
  const close = placing.stretches.slice(0, 1 + RIVALS).flatMap(({ score }, number) => (number && score > placing.stretches[0].score - CLOSE ? [number] : []));
  return [0, ...close].map((number) => {
    const { samples: second, first } = placing.second(number);
    const waveform = second.map((value) => Math.min(32767, Math.max(-32768, roundEven(value * 32768))) / 32768);
    const { score, long, voices } = placing.stretches[number] ?? { score: 0, long: false, voices: 0 };
    return { waveform, first, score, long, voices };
  });
}

export class Recognizer {
  // Takes decoded recordings. `run` takes a waveform and returns { probabilities, ends } with ends in samples or null.
  constructor(settings, run) {
    Object.assign(this, { settings, run });
  }

  async recognize(channels, rate) {
    const { settings } = this;
    const { samples: mixed, note } = mix(channels, rate, settings.channels);
    const samples = resample(mixed, rate, settings.sample_rate, settings.resampling);
    const seconds = findSeconds(samples, settings);
    const read = [];
    for (const second of seconds) read.push(await this.read(second, samples.length));
    const odds = read.map((one, number) => settings.recognizer.SOUND_WEIGHT * seconds[number].score + logOdds(one.probability));
    const best = odds.indexOf(Math.max(...odds));
    const others = read.filter((_, number) => number !== best);
    const several = seconds[best].voices > 1 && settings.recognizer.ONE_VOICE.includes(read[best].ranked[0][0]);
    const more = several || seconds[0].long || others.some((one) => one.letter !== null && one.probability > settings.recognizer.SURE);
    return { ...read[best], more, note, samples };
  }

  async read({ waveform, first }, length) {
    const { labels, reject_below: least, sample_rate: rate } = this.settings;
    const { probabilities, ends } = await this.run(waveform);
    const ranked = labels.map((letter, i) => [letter, probabilities[i]]).sort((a, b) => b[1] - a[1]);
    const [letter, probability] = ranked[0];
    if (probability < least) return { letter: null, probability, ranked, start: null, end: null };
    const [start, end] = ends ? [...ends].map((sample) => Math.min(Math.max(0, first + sample), length) / rate) : [null, null];
    return { letter, probability, ranked, start, end };
  }
}
