// A picture from the webcam. Browsers lend it to https pages and to localhost alone.

const REASONS = {
  NotAllowedError: "The browser keeps the webcam from this page. Allow it in the browser's settings of this site.",
  NotFoundError: "There is no webcam.",
  NotReadableError: "The webcam is in use by another program.",
};

export const available = Boolean(navigator.mediaDevices?.getUserMedia);

export class Camera {
  #stream = null;
  #attempt = 0;

  /** `changed(on)` is called when it starts and when it ends, for whatever reason. */
  constructor(video, changed) {
    this.video = video;
    this.changed = changed;
    window.addEventListener("pagehide", () => this.stop());
  }

  /** Shows what the webcam sees. Throws an Error that says why it cannot. */
  async start() {
    this.stop();
    const attempt = ++this.#attempt;
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({
        video: { facingMode: { ideal: "environment" }, width: { ideal: 1920 }, height: { ideal: 1080 } },
      });
    } catch (error) {
      throw new Error(REASONS[error.name] ?? `The webcam does not start: ${error.message}`);
    }
    if (attempt !== this.#attempt) {
      for (const track of stream.getTracks()) track.stop(); // stopped while the browser asked for permission
      return;
    }
    this.#stream = stream;
    stream.getVideoTracks()[0].addEventListener("ended", () => this.stop());
    this.video.srcObject = stream;
    this.changed(true);
  }

  stop() {
    this.#attempt++;
    if (!this.#stream) return;
    for (const track of this.#stream.getTracks()) track.stop();
    this.#stream = this.video.srcObject = null;
    this.changed(false);
  }

  /** What it sees now, as a file, in its own resolution. */
  async take() {
    const { videoWidth: width, videoHeight: height } = this.video;
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    canvas.getContext("2d").drawImage(this.video, 0, 0);
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
    return new File([blob], "webcam.jpg", { type: "image/jpeg" });
  }
}
