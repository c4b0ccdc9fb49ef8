// A quiz to start with: five questions, one of each common kind and one more, in the definition format of the API.

export const SAMPLE = {
  title: 'Around the world in five questions',
  pace: 'host',
  questions: [
    {
      id: 'q1', kind: 'single_choice', text: 'Which city is the capital of Australia?',
      choices: [
        { id: 'a', text: 'Sydney' }, { id: 'b', text: 'Canberra' },
        { id: 'c', text: 'Melbourne' }, { id: 'd', text: 'Perth' },
      ],
      key: { choice: 'b' }, points: '1000', time_limit_ms: 20000, award: 'kahoot@1',
    },
    {
      id: 'q2', kind: 'multiple_choice', text: 'Which of these countries does the equator cross?',
      choices: [
        { id: 'a', text: 'Kenya' }, { id: 'b', text: 'Brazil' }, { id: 'c', text: 'India' },
        { id: 'd', text: 'Indonesia' }, { id: 'e', text: 'Egypt' },
      ],
      key: { choices: ['a', 'b', 'd'] }, points: '1000', time_limit_ms: 30000, award: 'kahoot@1',
    },
    {
      id: 'q3', kind: 'numeric', text: 'How high is Mount Everest, in metres? Within 50 counts.',
      key: { value: '8849', tolerance: '50' }, points: '1000', time_limit_ms: 30000, award: 'kahoot@1',
    },
    {
      id: 'q4', kind: 'short_text', text: 'Which country has the city of Timbuktu?',
      key: { accept: ['Mali', 'Republic of Mali'] }, points: '1000', time_limit_ms: 30000, award: 'kahoot@1',
    },
    {
      id: 'q5', kind: 'single_choice', text: 'Which ocean is the deepest?',
      choices: [
        { id: 'a', text: 'Atlantic' }, { id: 'b', text: 'Indian' },
        { id: 'c', text: 'Arctic' }, { id: 'd', text: 'Pacific' },
      ],
      key: { choice: 'd' }, points: '2000', time_limit_ms: 15000, award: 'kahoot@1',
    },
  ],
};

/** Returns the definition as text, one question per paragraph, easy to edit by hand. */
export function sampleText() {
  return JSON.stringify(SAMPLE, null, 2);
}
