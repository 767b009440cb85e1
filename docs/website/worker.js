// Browsers start no worker from the disk. There the search runs in a frame instead of a worker.
if (location.protocol === "file:") {
  window.Worker = class {
    constructor(url) {
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.body.append(this.frame);
      this.inner = this.frame.contentWindow;
      this.inner.postMessage = (message) => {
        const data = structuredClone(message); // as between a page and a worker
        setTimeout(() => this.onmessage?.({ data }));
      };
      const script = this.inner.document.createElement("script");
      this.started = new Promise((resolve) => (script.onload = resolve));
      script.src = new URL(url, document.baseURI);
      this.inner.document.body.append(script);
    }
    postMessage(message) {
      const data = structuredClone(message);
      this.started.then(() => this.inner.onmessage({ data }));
    }
    terminate() {
      this.frame.remove();
    }
  };
}
