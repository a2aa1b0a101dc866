import { render } from "preact";
import { openChats } from "./state/chats";
import { startRouting } from "./state/route";
import { startPolling } from "./state/server";
import "./styles/base.css";
import "./styles/layout.css";
import "./styles/chat.css";
import "./styles/markdown.css";
import "./styles/server.css";
import { App } from "./ui/app";

await openChats();
await startRouting();
startPolling();
render(<App />, document.body);
