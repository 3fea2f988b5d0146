import { call } from "./api.js";
import { byId, say } from "./dom.js";

const button = byId("start", HTMLButtonElement);

button.addEventListener("click", async () => {
  button.disabled = true;
  try {
    await call("POST", "/api/practice");
    location.replace("/study");
  } catch (error) {
    button.disabled = false;
    say(byId("said", HTMLElement), error instanceof Error ? error.message : String(error));
  }
});
