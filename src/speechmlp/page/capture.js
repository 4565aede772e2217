// Runs in the audio thread: sends blocks of samples from the microphone to the page.
class Capture extends AudioWorkletProcessor {
  process([channels]) {
    if (channels && channels.length) this.port.postMessage(channels[0].slice());
    return true;
  }
}
registerProcessor("capture", Capture);
