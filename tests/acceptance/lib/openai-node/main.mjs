// Runs the calls of OpenAI's Node client.
import { readFileSync } from 'node:fs';
import { run } from './suite.mjs';
import './chat.mjs';
import './others.mjs';

const { version } = JSON.parse(readFileSync(new URL('node_modules/openai/package.json', import.meta.url)));
process.exit((await run(`openai ${version} (Node)`)) ? 1 : 0);
