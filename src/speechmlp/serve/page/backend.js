// What the page asks for, answered by the server. An exported page has another backend with the same functions.
export const privacy = (teaches) =>
  `Recordings are sent only to the program that serves this page, and are not stored${teaches ? ", except those of Teach my voice" : ""}.`;
export const secure = "start the server with --https"; // where the browser allows no microphone

export async function describe() {
  const response = await fetch("api");
  return await response.json();
}

export async function recognize(sound, name, bars, judge) {
  // Returns what the server found in a recording, or { error }.
  try {
    const query = new URLSearchParams({ name, waveform: bars, judge });
    const response = await fetch(`api/recognize?${query}`, { method: "POST", body: sound });
    return await response.json();
  } catch {
    return { error: "The server does not answer. Is it still running?" };
  }
}

export async function live(samples, options) {
  // Returns what the server recognised of the next samples, or { error }; lost: whether it may be asked again.
  try {
    const response = await fetch(`api/live?${new URLSearchParams(options)}`, { method: "POST", body: samples });
    return await response.json();
  } catch {
    return { error: "The server does not answer. Is it still running?", lost: true };
  }
}

export async function offer(words, letters) {
  // Returns the words that begin as it is spelled, with their probabilities.
  try {
    const headers = { "Content-Type": "application/json" };
    const response = await fetch("api/words", { method: "POST", headers, body: JSON.stringify({ words, letters }) });
    const { words: found = [] } = await response.json();
    return found.map(({ word, probability }) => [word, probability]);
  } catch {
    return [];
  }
}

async function ask(address, options = {}) {
  // Returns what the server answers about a voice, or { error }; lost: whether it does not answer.
  try {
    const response = await fetch(`api/voice${address}`, options);
    return await response.json();
  } catch {
    return { error: "The server does not answer. Is it still running?", lost: true };
  }
}

const change = (address) => ask(address, { method: "POST" });

export const voice = {
  secure,
  state: () => ask(""),
  take: (sound, letter) => ask(`/take?${new URLSearchParams({ letter })}`, { method: "POST", body: sound }),
  remove: (letter) => change(`/remove?${new URLSearchParams({ letter })}`),
  adapt: () => change("/adapt"),
  stop: () => change("/stop"),
  use: (adapted) => change(`/use?adapted=${adapted}`),
};
