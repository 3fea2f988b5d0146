import { byId } from "./dom.js";

byId("dropped", HTMLElement).hidden = location.hash !== "#dropped";
