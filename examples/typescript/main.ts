import { Crunch, ProblemError } from './crunch.js';

const crunch = new Crunch('http://127.0.0.1:8080');

const job = await crunch.submit('crunch', { photons: 1_000_000 }, { priority: 'high', metadata: { order: 17 } });
const ended = await crunch.wait(job.token);
console.log(ended.status, ended.metadata);
const { transmitted } = await crunch.result(job.token);
console.log(transmitted.fraction.toFixed(2));

try {
  await crunch.submit('crunch', { photons: 0 });
} catch (error) {
  if (!(error instanceof ProblemError)) throw error;
  console.log(error.problem.type, error.problem.errors);
}
