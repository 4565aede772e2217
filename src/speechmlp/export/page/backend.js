// What the page asks for, answered in the browser: the model is run by ONNX Runtime.
import { decode } from "./decoding.js";
import { env, InferenceSession, Tensor } from "./onnxruntime.js";
import { Recognizer } from "./recognizer.js";

export const privacy = () => "Recordings stay in this browser, and are not stored.";
export const secure = "open the page over HTTPS"; // where the browser allows no microphone

const PEAK = 2 / 32768; // of silence
const SHORTEST = 0.05; // seconds

async function get(name) {
  const response = await fetch(name);
  if (!response.ok) throw new Error(`${name} is missing`);
  return response;
}

async function load() {
  const settings = await (await get("settings.json")).json();
  env.wasm.numThreads = 1; // more need headers that static servers do not send
  env.wasm.wasmPaths = { wasm: new URL("onnxruntime.wasm", import.meta.url).href };
  const session = await InferenceSession.create(new Uint8Array(await (await get("model.onnx")).arrayBuffer()));
  const run = async (waveform) => {
    const found = await session.run({ waveforms: new Tensor("float32", waveform, [1, waveform.length]) });
    return { probabilities: found.probabilities.data, ends: found.ends?.data ?? null };
  };
  return new Recognizer(settings, run);
}

const loading = load();
loading.catch(() => {}); // each answer says so

export async function describe() {
  const { about } = await (await get("settings.json")).json();
  return about;
}

function loudness(samples, bars) {
  // Returns the largest absolute sample of each of some equal parts.
  return Array.from({ length: bars }, (_, bar) => {
    const part = samples.subarray(Math.floor((bar * samples.length) / bars), Math.ceil(((bar + 1) * samples.length) / bars));
    return round(part.reduce((most, value) => Math.max(most, Math.abs(value)), 0), 3);
  });
}

const round = (value, digits) => (value === null ? null : Number(value.toFixed(digits)));

function problem({ rate, channels }, { max_seconds: longest }) {
  // Returns what is wrong with a decoded recording, if anything.
  const seconds = (channels[0]?.length ?? 0) / rate;
  if (!seconds) return "contains no samples; expected a recorded letter";
  if (seconds > longest) return `expected at most ${longest} s, found ${seconds.toPrecision(4)} s; one spoken letter is enough`;
  if (seconds < SHORTEST) return `is too short (${seconds.toFixed(3)} s); expected a spoken letter`;
  let peak = 0;
  for (const channel of channels) for (const sample of channel) if (!(Math.abs(sample) <= peak)) peak = Math.abs(sample);
  if (!(peak <= 16)) return "contains samples that are not finite, or not between -1 and 1";
  if (peak < PEAK) return "is silent; is the microphone muted?";
  return null;
}

export async function recognize(sound, name, bars) {
  // Returns what is found in a recording, or { error }.
  let recognizer;
  try {
    recognizer = await loading;
  } catch (error) {
    return { error: `The model cannot be loaded (${error.message}). Export the folder again, or use a newer browser.` };
  }
  let decoded;
  try {
    decoded = await decode(new Uint8Array(await sound.arrayBuffer()));
  } catch {
    return { error: `${name}: cannot be decoded as audio; expected WAV, FLAC, OGG, MP3 or another format that this browser reads` };
  }
  const wrong = problem(decoded, recognizer.settings.about);
  if (wrong) return { error: `${name}: ${wrong}` };
  const found = await recognizer.recognize(decoded.channels, decoded.rate);
  return {
    path: name,
    letter: found.letter,
    probability: round(found.probability, 4),
    ranked: found.ranked.slice(0, 3).map(([letter, probability]) => [letter, round(probability, 4)]),
    probabilities: Object.fromEntries(found.ranked.map(([letter, probability]) => [letter, round(probability, 6)]).sort()),
    start: round(found.start, 4),
    end: round(found.end, 4),
    more: found.more,
    seconds: round(found.samples.length / recognizer.settings.sample_rate, 4),
    note: found.note,
    waveform: loudness(found.samples, bars),
  };
}
