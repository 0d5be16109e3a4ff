/* --bits-file: what a run makes of it, what it keeps, and that it resumes without the file. */
#include "tests/saved.h"
#include "tests/shell.h"

enum { OUTPUT = 1 << 15 };
static char out[OUTPUT];

/* Runs `qevo-gpu ARGUMENTS 2>&1` in the folder. */
static int run(const char *arguments) {
  char command[2048];
  snprintf(command, sizeof command, "cd %s && " QE_BINARY_DIR "/qevo-gpu %s 2>&1", folder, arguments);
  return shell_run(command, out, OUTPUT);
}

static void write_text(const char *name, const char *text) {
  OK(qe_file_write(path_of(name), text, strlen(text)));
}

static const char quick[] = "train qat --backend cpu --threads 1 --model mlp --data cifar10-subset --batch 500 "
                            "--float-epochs 0 --epochs 1 --no-flip --pad 0";

static void expect(const char *more, int code, const char *text) {
  char arguments[768];
  snprintf(arguments, sizeof arguments, "%s %s", quick, more);
  shell_expect(more, run(arguments), code, out, text);
}

static int32_t bits_of(const char *file, const char *layer, char letter) {
  qe_model *model;
  OK(qe_model_read(path_of(file), &model, NULL));
  const qe_node_info *node = &model->graph->node[qe_graph_find_node(model->graph, layer)];
  int32_t bits = letter == 'w' ? node->quantizer.bits : qe_graph_bits(model->graph, node->input[0]);
  qe_model_free(model);
  return bits;
}

static void the_file_decides(void **state) {
  (void)state;
  write_text("a.bits", "others w3 a4\nfc2 w2 a5\n");
  expect("--bits-file a.bits --out run", 0, "test accuracy");
  assert_int_equal(bits_of("run/last.safetensors", "fc2", 'w'), 2);
  assert_int_equal(bits_of("run/last.safetensors", "fc2", 'a'), 5);
  assert_int_equal(bits_of("run/last.safetensors", "fc1", 'w'), 8); /* an edge */
}

/* The config has the bits, so the file may be gone. */
static void resumes_without_the_file(void **state) {
  (void)state;
  write_text("b.bits", "others w3 a4\nfc2 w2\n");
  expect("--bits-file b.bits --out again", 0, "test accuracy");
  OK(qe_file_remove(path_of("b.bits")));
  expect("--epochs 2 --resume --out again", 0, "test accuracy");
  assert_int_equal(bits_of("again/last.safetensors", "fc2", 'w'), 2);
  assert_int_equal(bits_of("again/last.safetensors", "fc2", 'a'), 4);
}

/* The same file given again changes nothing; another one is another run. */
static void the_file_again(void **state) {
  (void)state;
  write_text("c.bits", "others w3 a4\nfc2 w2\n");
  write_text("d.bits", "others w3 a4\nfc2 w5\n");
  expect("--bits-file c.bits --out third", 0, "test accuracy");
  expect("--epochs 2 --bits-file c.bits --resume --out third", 0, "test accuracy");
  expect("--epochs 3 --bits-file d.bits --resume --out third", 2, "layer_bits");
}

static void who_has_the_first_word(void **state) {
  (void)state;
  write_text("e.bits", "others w3 a4\nfc2 w2 a5\n");
  expect("--bits-file e.bits --layer-bits fc2=w7 -a 6 --dry-run", 0, "layer-bits: fc2=w7,fc2=w2a5 #");
  assert_non_null(strstr(out, "weight-bits: 3 # bits file e.bits"));
  assert_non_null(strstr(out, "act-bits: 6 # command line"));
  write_text("recipe.yaml", "method: qat\nmodel: mlp\nlayer-bits: fc3=w4\nweight-bits: 5\n");
  char arguments[] = "train recipe.yaml --backend cpu --data cifar10-subset --bits-file e.bits --dry-run";
  shell_expect(arguments, run(arguments), 0, out, "layer-bits: fc2=w2a5 #");
  assert_non_null(strstr(out, "weight-bits: 3"));
  write_text("both.yaml", "method: qat\nmodel: mlp\nlayer-bits: fc3=w4\nbits-file: e.bits\n");
  char both[] = "train both.yaml --backend cpu --data cifar10-subset --dry-run";
  shell_expect(both, run(both), 0, out, "layer-bits: fc3=w4,fc2=w2a5 #");
}

static void refusals(void **state) {
  (void)state;
  write_text("f.bits", "fc1 w3\nfc22 w2\n");
  expect("--bits-file f.bits", 2, "f.bits:2: mlp has no conv or linear layer called 'fc22'");
  expect("--bits-file none.bits", 2, "none.bits: cannot open");
  write_text("mine.net", "x = input()\n");
  write_text("g.bits", "fc1 w3\n");
  char arguments[] = "train qat --backend cpu --model mine.net --data cifar10-subset --bits-file g.bits";
  shell_expect(arguments, run(arguments), 2, out, "says the bits of its layers itself");
}

/* A latency table of this backend serves a budget; on another device, it does not. */
static void latency_of_a_search(void **state) {
  (void)state;
  static const char bench[] = "bench latency --backend cpu --threads 1 --model mlp --data cifar10-subset --batch 8 "
                              "--repeat 1 --steps 1 --latency-bits 2,8 --latency-file mlp.latency.json";
  static const char train[] = "train gradfreebits --backend cpu --model mlp --data cifar10-subset -w 3 -a 3 --dry-run "
                              "--gfb-budgets latency=1e9 --gfb-latency mlp.latency.json";
  char arguments[512];
  shell_expect(bench, run(bench), 0, out, "mlp-w2a2");
  snprintf(arguments, sizeof arguments, "%s --threads 1", train);
  shell_expect(arguments, run(arguments), 0, out, "nothing was trained");
  snprintf(arguments, sizeof arguments, "%s --threads 2", train);
  shell_expect(arguments, run(arguments), 2, out, "was measured with the device");
  snprintf(arguments, sizeof arguments, "%s --threads 2 --gfb-latency-elsewhere", train);
  shell_expect(arguments, run(arguments), 0, out, "nothing was trained");
}

static int close_with_runs(void **state) {
  static const char *const name[] = {"run", "again", "third"};
  char command[2 * FIXTURE_PATH];
  for (size_t i = 0; i < sizeof name / sizeof *name; i++) {
    snprintf(command, sizeof command, "rm -rf %s/%s", folder, name[i]);
    if (shell_run(command, out, OUTPUT) != 0) return -1;
  }
  return close_all(state);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_file_decides), cmocka_unit_test(resumes_without_the_file),
      cmocka_unit_test(the_file_again),   cmocka_unit_test(who_has_the_first_word),
      cmocka_unit_test(refusals),         cmocka_unit_test(latency_of_a_search),
  };
  return cmocka_run_group_tests(tests, open_all, close_with_runs);
}
