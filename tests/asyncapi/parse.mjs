// Parses an AsyncAPI document and says what is wrong with it. An error ends it with 1.
import { Parser, fromFile } from '@asyncapi/parser';

const { document, diagnostics } = await fromFile(new Parser(), process.argv[2]).parse();
const errors = diagnostics.filter((diagnostic) => diagnostic.severity === 0);
for (const { path, message, range } of errors) {
  console.error(`${process.argv[2]}:${range.start.line + 1}: ${path.join('.')}: ${message}`);
}
if (!document || errors.length > 0) process.exit(1);
console.log(`${process.argv[2]}: ${document.channels().length} channels, ${document.messages().length} messages, no error`);
