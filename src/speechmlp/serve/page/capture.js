// Runs beside the page's own thread: hands blocks of samples from the microphone to it.
class Capture extends AudioWorkletProcessor {
  process([channels]) {
    if (channels && channels.length) this.port.postMessage(channels[0].slice());
    return true;
  }
}
registerProcessor("capture", Capture);
