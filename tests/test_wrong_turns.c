/* Wrong turns: what a user may get wrong ends with the exit code that --help states and one message on stderr that
 * names the file, key or shape and the cure; nothing on stdout but what was asked for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cjson/cJSON.h>
#include <cmocka.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { OUTPUT = 1 << 16 };
static char out[OUTPUT], folder[] = "/tmp/qevo-turns-XXXXXX";

/* Run a shell command in the folder, "qevo-gpu" being the program; output goes to `out`. Returns the exit code. */
static int shell(const char *text) {
  char command[4096];
  snprintf(command, sizeof command,
           "cd %s && export QEVO_DATA_DIR= HOME=%s/folder OMP_WAIT_POLICY=passive PATH=" QE_BINARY_DIR ":$PATH; %s",
           folder, folder, text);
  FILE *pipe = popen(command, "r");
  assert_non_null(pipe);
  out[fread(out, 1, OUTPUT - 1, pipe)] = 0;
  int status = pclose(pipe);
  assert_true(WIFEXITED(status));
  return WEXITSTATUS(status);
}

static void write_text(const char *name, const char *text) {
  char path[256];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *file = fopen(path, "w");
  assert_non_null(file);
  fputs(text, file);
  assert_int_equal(fclose(file), 0);
}

#define MLP "--model mlp --data cifar10-subset --backend cpu --threads 1 "
#define SUBSET "--data cifar10-subset --threads 1 "

/* A model, its network, damaged and foreign files, configs with a mistake each, a run. */
static int open_folder(void **state) {
  (void)state;
  static const char *const files[][2] = {
      {"text.txt", "no model\n"},
      {"empty", ""},
      {"plain.yaml", "epochs 3\n"},
      {"key.yaml", "epoch: 3\n"},
      {"twice.yaml", "rate: 1\nrate: 2\n"},
      {"method.yaml", "method: qatt\n"},
      {"choice.yaml", "optimizer: sgdd\n"},
      {"init.yaml", "method: qat\ninit: nowhere.safetensors\n"},
      {"open.yaml", "stages: [eda\n"},
      {"list.yaml", "- epochs\n"},
      {"nested.yaml", "eda: {bach: 3}\n"},
      {"tab.yaml", "\tepochs: 3\n"},
      {"map.yaml", "pipeline:\n  method: qat\n"},
      {"own.yaml", "method: qat\nmodel: mlp\ndata: cifar10-subset\nthreads: 1\nfloat-epochs: 0\nepochs: 2\n"},
      {"two.yaml", "model: mlp\ndata: cifar10-subset\nthreads: 1\nfloat-epochs: 0\nepochs: 1\npipeline:\n- method: "
                   "qat\n  rate: 0.01\n- method: qat\n  name: more\n  rate: 0.02\n"},
  };
  if (!mkdtemp(folder)) return -1;
  for (size_t i = 0; i < sizeof files / sizeof *files; i++) write_text(files[i][0], files[i][1]);
  return shell("mkdir folder run broken blank && echo {} >run/metrics.jsonl && echo >broken/libqevo-cpu.so && "
               "echo >blank/config.yaml && qevo-gpu train own.yaml --out done >/dev/null 2>&1 && "
               "cp -r done gone && rm gone/checkpoint* && "
               "qevo-gpu train coevolution " MLP "--init done --budget 100 --out search >/dev/null 2>&1 && "
               "cp " QE_SOURCE_DIR "/models/resnet20-cifar10-w4a4-qat.safetensors model.safetensors && "
               "cp " QE_SOURCE_DIR "/models/resnet20-cifar10-float.safetensors float.safetensors && "
               "head -c 5000 model.safetensors >cut.safetensors && "
               "qevo-gpu export model.safetensors --out w4a4.network >/dev/null");
}

static int remove_folder(void **state) {
  (void)state;
  char command[64];
  snprintf(command, sizeof command, "rm -rf %s", folder);
  return system(command);
}

/* ---- bad usage and bad input: exit code 2 ---- */

static const struct {
  const char *arguments, *message;
} turns[] = {
    /* commands */
    {"trian", "no such command: trian; did you mean train?"},
    {"--hlep", "no such command: --hlep; did you mean --help?"},
    {"''", "no such command: ; 'qevo-gpu --help' lists them"},
    {"help evla", "no such command: evla; did you mean eval?"},
    {"completion", "needs SHELL; 'qevo-gpu completion --help' says more"},
    {"completion bsh", "no completion for a shell called 'bsh'; there are bash, zsh and fish; did you mean bash?"},
    {"man trian", "no command is called 'trian'; 'qevo-gpu --help' lists them; did you mean train?"},
    {"devices cpu", "one argument too many: cpu"},
    {"inspect", "needs FILE; 'qevo-gpu inspect --help' says more"},
    /* methods and recipes */
    {"train", "needs METHOD or RECIPE, as in 'qevo-gpu train qat'; 'qevo-gpu train --list' lists them"},
    {"train qta", "no method or recipe is called 'qta'; 'qevo-gpu train --list' lists them; did you mean qat?"},
    {"train quikstart", "did you mean quickstart?"},
    {"train w4a4-eda", "did you mean resnet20-cifar10-w4a4-eda?"},
    {"train recipes/quickstart.yaml", "no such file; the recipe is built in: 'qevo-gpu train quickstart'"},
    {"train other.yaml", "other.yaml: cannot open: No such file or directory; check the path"},
    {"train coevolution qat", "one argument too many: qat"},
    {"train -- --list", "no method or recipe is called '--list'"},
    {"train QAT", "did you mean qat?"},
    {"train done", "done is a run's folder: 'qevo-gpu train --resume --out done' goes on with it"},
    {"train model.safetensors", "model.safetensors is a file, but no recipe, which would end in .yaml; a model"},
    {"train qat --resume", "--resume needs the run's folder: add --out"},
    {"train --resume", "--resume needs the run's folder: add --out"},
    {"train --resume --out none", "none has no config.yaml, so no run to go on with; start one without --resume"},
    {"train --resume --out text.txt", "text.txt/config.yaml: cannot open: Not a directory; a file is in the way"},
    {"train --resume --out blank", "blank/config.yaml names no method"},
    {"train --resume --out gone",
     "gone: the run has finished, and its checkpoints are gone: there is nothing to resume"},
    {"train --resume --out gone --dry-run", "gone: the run has finished, and its checkpoints are gone"},
    {"train --resume --out done --epochs 1", "2 epochs of qat are done, this run would have 1: give the epochs of the"},
    {"train --resume --out done --held-out 50", "was made with 1000 training images, this run has 950: resume with"},
    {"train --resume --out done --optimizer adam",
     "has no fitting tensor optimizer.second: resume with the options of"},
    {"train --resume --out search -w 2", "was made with weight_bits '4', this run has '2': resume with the options of"},
    {"train --resume --out search --stages local", "was made with stages 'eda', this run has 'local': resume with the"},
    {"train --resume --out search --seed 2", "was made with seed '1', this run has '2': resume with the options of"},
    {"train --out ''", "--out '': needs the name of a folder"},
    {"train coevolution --find-rate " MLP, "--find-rate: the method coevolution has no learning rate"},
    {"train sqwa -w 2 --weight-quantizer lsq " MLP,
     "captured models are averaged as codes, which needs a grid that stays"},
    {"train sqwa --sqwa-choose soup " MLP,
     "captures are chosen by their loss on held-out images; set held-out above 0"},
    {"train sqwa --captures 1,9 " MLP,
     "captures '1,9': write numbers of captures, as in 1,3,5-7, each once, from 1 to 7"},
    {"train sqwa --epochs 15 " MLP, "make epochs 70"},
    {"train sqwa --sqwa-choose sop " MLP, "must be all, best or soup; did you mean soup?"},
    /* options */
    {"train qat --weigth-bits 4", "--weigth-bits: no such option; did you mean --weight-bits?"},
    {"train qat --integer", "--integer: no option of \"train\"; it belongs to: eval"},
    {"train qat --lr 1", "--lr: no such option; did you mean --rate?"},
    {"train qat --output x", "--output: no such option; did you mean --out?"},
    {"train qat --frob", "--frob: no such option; --help lists them"},
    {"train qat --set config=x", "--set config: only as an option itself, --config x"},
    {"train qat --set =3", "--set =3: must be NAME=VALUE"},
    {"train qat -z", "-z: no such option; --help lists them"},
    {"train qat -w", "--weight-bits: needs a value"},
    {"train qat -w 9", "--weight-bits 9: must be 1…8 or 32"},
    {"train qat --epochs ten", "--epochs ten: must be 0…1000000 or auto"},
    {"train qat --epochs 0 " MLP, "--epochs 0: must be at least 1"},
    {"train qat --rate -1", "--rate -1: must be at least 0 or auto"},
    {"train qat --momentum 2", "--momentum 2: must be 0…1"},
    {"train qat --schedule cosin", "onecycle or constant; did you mean cosine?"},
    {"train qat --optimizer admw", "must be sgd or adam; did you mean adam?"},
    {"train qat --flip=ture", "--flip ture: must be true or false; did you mean true?"},
    {"train qat --no-rate", "--no-rate: --rate is not a flag, it takes a value"},
    {"train qat --no-flip=1", "--no-flip: takes no value"},
    {"train qat --milestones 3,x", "--milestones 3,x: must be numbers, 0…1000000"},
    {"train qat --rate=$(printf '\\377')", "--rate: the value is not UTF-8 text"},
    {"train qat --precision bf61", "must be fp32, tf32 or bf16; did you mean bf16?"},
    {"train qat --set rat=1", "--set rat: no such option; did you mean rate?"},
    {"train qat --set rate", "--set rate: must be NAME=VALUE"},
    {"train qat --set optimizer=sdg", "--set optimizer sdg: must be sgd or adam; did you mean sgd?"},
    {"devices --epochs 3", "it belongs to: train"},
    /* config files */
    {"train qat --config", "--config: needs a value"},
    {"train qat --config nowhere.yaml", "nowhere.yaml: cannot open: No such file or directory; check the path"},
    {"train qat --config folder", "folder: cannot read: Is a directory; name a file"},
    {"train plain.yaml", "plain.yaml:1: must be a mapping, lines of the form \"name: value\""},
    {"train list.yaml", "list.yaml:1: must be a mapping"},
    {"train qat --config key.yaml", "key.yaml:1: epoch: no such key; did you mean epochs?"},
    {"train twice.yaml", "twice.yaml:2: rate: already set on line 1"},
    {"train method.yaml", "method.yaml:1: no method or recipe is called 'qatt'"},
    {"train choice.yaml", "choice.yaml:1: optimizer sgdd: must be sgd or adam; did you mean sgd?"},
    {"train open.yaml", "open.yaml:2: not YAML: did not find expected ',' or ']'"},
    {"train tab.yaml", "tab.yaml:1: not YAML: "},
    {"train map.yaml", "map.yaml:1: pipeline: must be a list: write \"- \" before the first option of each step"},
    {"eval model.safetensors --config key.yaml", "key.yaml:1: epoch: no such key; did you mean epochs?"},
    {"train nested.yaml", "nested.yaml:1: eda.bach: no such key; did you mean eda-batch?"},
    {"train init.yaml", "init.yaml:2: init: no file nowhere.safetensors, from here, beside that file, above it"},
    /* models, data, devices */
    {"train qat --model resnet21 " SUBSET, "no model is called 'resnet21'; there are resnet8, resnet20"},
    {"train qat --model resnet21 " SUBSET, "did you mean resnet20?"},
    {"train qat --model model.safetensors " SUBSET, "a model to start from is given by --init"},
    {"train qat --data cifr", "no data set is called 'cifr'"},
    {"train qat --data cifar01", "did you mean cifar10?"},
    {"train qat --data folder", "no data set is called 'folder', which is a folder: if it holds images write folder:"},
    {"train qat --data-dir folder", "folder: no cifar10 here"},
    {"eval model.safetensors --data-dir nowhere", "give another --data-dir, or "},
    {"train qat --backend cup", "no backend is called 'cup'; there are auto, ref"},
    {"train qat --backend auot", "did you mean auto?"},
    {"train qat --backend ref --device 7 " SUBSET, "backend ref has devices 0...0, not 7"},
    {"train qat --backend ref --device rtx " SUBSET, "no device of backend ref is called 'rtx'; device 0 of 1 is "},
    {"train qat " MLP "--layer-bits fc1=3", "layer bits 'fc1=3': write LAYER=w4a4"},
    {"train qat --model resnet8 " SUBSET "--layer-bits stage1.0.cov1=w3",
     "no conv or linear layer called 'stage1.0.cov1'; --dump FILE lists them; did you mean stage1.0.conv1?"},
    {"train qat " MLP "--bits-file nowhere", "nowhere: cannot open: No such file or directory; check the path"},
    {"train qat " MLP "--bits-file folder", "folder is a folder: name a file"},
    {"train qat " MLP "--bits-file plain.yaml", "plain.yaml:1: "},
    {"train qat " MLP "--bits-file empty", "empty: it has bits of no layer; write lines such as 'fc w3 a4'"},
    {"train qat " MLP "--distill average", "set ema above 0"},
    {"train qat " MLP "--distill frozen --teacher text.txt", "teacher: text.txt: not a safetensors file"},
    {"train qat " MLP "--residual-bits 2", "residual bits 2: must not be below the activation bits, 4"},
    {"train qat " MLP "--held-out 1000", "1000 images held out of 1000: some must be left to train on"},
    {"train qat " MLP "--batch 2000", "batch 2000 x accumulate 1 is more than the 1000 training images"},
    /* files */
    {"train qat " MLP "--init nowhere", "nowhere: cannot open: No such file or directory; check the path"},
    {"train qat " MLP "--init folder", "folder is a folder: name a file"},
    {"train qat " MLP "--init text.txt", "text.txt: not a safetensors file"},
    {"train qat " MLP "--init cut.safetensors", "cut.safetensors: not a safetensors file: its header is longer than"},
    {"train qat " MLP "--init model.safetensors",
     "model.safetensors is a resnet20 with shortcut A, the run is of mlp with shortcut A: change --model or --init"},
    {"train qat " MLP "--init w4a4.network", "w4a4.network is an integer network; what is needed here is the model"},
    {"train qat " MLP "--out run", "run holds a run already: add --resume to go on with it, or choose another --out"},
    {"train qat " MLP "--resume --out folder/none", "no checkpoint to resume from, and no run; start without --resume"},
    {"train qat " MLP "--find-rate --float-epochs 0 --out text.txt",
     "text.txt: cannot make the folder: File exists; a file is in the way: choose another path"},
    {"train qat " MLP "--dry-run --dump missing/x", "missing/x: cannot write: No such file or directory"},
    {"train qat " MLP "--dry-run --dump folder", "folder: cannot write: Is a directory; name a file"},
    {"eval folder", "folder is a folder: name a file"},
    {"eval empty", "empty: not a safetensors file: shorter than 8 bytes"},
    {"eval model.safetensors other", "one argument too many: other"},
    {"eval w4a4.network --agreement " SUBSET, "--agreement compares with a float network"},
    {"eval w4a4.network --dump-dot x " SUBSET, "an integer network has no Graphviz form; --dump writes it"},
    {"export model.safetensors", "needs --out FILE"},
    {"export model.safetensors --out missing/x", "missing/x: cannot write: No such file or directory"},
    {"export float.safetensors --out x", "layer conv1: its weights are float; give it 1 to 8 weight bits"},
    {"export w4a4.network --out x", "w4a4.network is an integer network"},
    {"report done --out folder", "folder: cannot write: Is a directory; name a file"},
    {"bench train --chart missing/x", "missing/x: cannot write: No such file or directory; check the path"},
    {"bench latency --latency-file folder", "folder: cannot write: Is a directory; name a file"},
    {"train qat --model alexnet " SUBSET, "model alexnet for 32x32 images: node pool5: max_pool on "},
    {"report model.safetensors --out ./model.safetensors", "is the file that is read: what is written would take its"},
    {"export model.safetensors --out model.safetensors", "is the file that is read: what is written would take its"},
    {"export model.safetensors --out folder", "folder: cannot write: Is a directory; name a file"},
    {"eval model.safetensors --dump model.safetensors", "is the file that is read: what is written would take its"},
    {"eval float.safetensors --integer " SUBSET, "float.safetensors: integer network, layer conv1: its weights are"},
    {"eval ''", "'': cannot open: No such file or directory"},
    {"eval /dev/zero", "/dev/zero: a device, no file: name a file"},
    {"train --sqwa-from done --out x", "--sqwa-from done: takes captured models of a run of sqwa, the method is qat"},
    {"report done --out missing/x", "missing/x: cannot write: No such file or directory; check the path"},
    {"inspect text.txt", "text.txt: not a safetensors file"},
    {"inspect w4a4.network --josn", "--josn: no such option; did you mean --json?"},
    /* searches and benches */
    {"train coevolution " MLP "--stages eda,lcal", "--stages: no stage is called 'lcal'; there is calibrate, local"},
    {"train coevolution " MLP "--stages eda,lcal", "did you mean local?"},
    {"train coevolution " MLP "--evolve weight", "did you mean weights?"},
    {"train coevolution " MLP "-w 32 -a 32", "set --weight-bits and --act-bits below 32"},
    {"train coevolution --fitness techer", "must be labels, teacher or both; did you mean teacher?"},
    {"bench cnv", "no bench is called 'cnv'"},
    {"bench conv --cases resnet20-w44", "did you mean resnet20-w4a4?"},
    {"bench conv --tune", "--tune is of bench population"},
};

static void test_wrong_turns(void **state) {
  (void)state;
  char command[1024];
  for (size_t i = 0; i < sizeof turns / sizeof *turns; i++) {
    snprintf(command, sizeof command, "qevo-gpu %s 2>errors </dev/null", turns[i].arguments);
    int code = shell(command);
    bool silent = out[0] == 0;
    (void)shell("cat errors");
    const char *last = strstr(out, "qevo-gpu"); /* notes may stand before the message */
    if (code != 2 || !silent || !last || !strstr(last, turns[i].message))
      fail_msg("qevo-gpu %s: exit code %d (expected 2)%s, stderr lacks \"%s\":\n%s", turns[i].arguments, code,
               silent ? "" : ", something on stdout", turns[i].message, out);
  }
  assert_int_equal(shell("ls nowhere missing x 2>/dev/null"), 2); /* nothing was made on the way */
  assert_string_equal(out, "");
}

/* ---- output that cannot be written, and failures that are nobody's mistake: exit code 1 ---- */

static void assert_shell(const char *command, int code, const char *expected) {
  int got = shell(command);
  if (got != code || !strstr(out, expected))
    fail_msg("%s: exit code %d (expected %d), output lacks \"%s\":\n%s", command, got, code, expected, out);
}

static void test_output_that_fails(void **state) {
  (void)state;
  static const char *const commands[] = {
      "devices",        "devices --json",      "--help",       "--version",
      "man train",      "train --list --json", "train --help", "inspect w4a4.network --json",
      "completion bash"};
  char command[256];
  for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
    snprintf(command, sizeof command, "qevo-gpu %s 2>&1 >/dev/full", commands[i]);
    assert_shell(command, 1, "cannot write to standard output; is it closed, or the disk full?");
    snprintf(command, sizeof command, "qevo-gpu %s 2>&1 >&-", commands[i]);
    assert_shell(command, 1, "cannot write to standard output; is it closed, or the disk full?");
  }
  assert_shell("qevo-gpu eval model.safetensors " SUBSET "--dump /dev/full 2>&1", 1,
               "/dev/full: cannot write: is the disk full?");
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1 /* such a program maps terabytes */
#else
#define SANITIZED 0
#endif

/* Limits of the shell end a command with a message, and let it end: threads of libraries that wait for memory must not
 * keep it. */
static void test_limits(void **state) {
  (void)state;
  assert_shell("ulimit -f 4; qevo-gpu report done --no-evaluate --out page.html 2>&1; echo $?; ls page.html*", 2,
               "page.html: cannot write: File too large; raise the limit of file sizes (ulimit -f)");
  assert_non_null(strstr(out, "\n1\n"));
  assert_shell("ulimit -f 4; qevo-gpu export model.safetensors --out big.network 2>&1; echo $?; ls big.network*", 2,
               "big.network: cannot write: File too large");
  assert_shell("(ulimit -f 0; qevo-gpu train --list --json 2>&3 >list) 3>&1 | cat", 0,
               "cannot write to standard output");
  if (SANITIZED) return;
  assert_shell("ulimit -v 200000; timeout -s KILL 60 qevo-gpu devices", 0, "ref ");
  assert_shell("ulimit -v 2000000; qevo-gpu eval model.safetensors " SUBSET "--backend cpu --batch 65536 2>&1", 0,
               "500 test images"); /* no batch is larger than the images */
}

/* A backend that is not built, and one whose library cannot be loaded. */
static void test_missing_backends(void **state) {
  (void)state;
  assert_shell("QEVO_BACKEND_DIR=folder qevo-gpu train qat --backend cuda 2>&1", 2,
               "no backend cuda here: folder has no libqevo-cuda.so");
  assert_shell("QEVO_BACKEND_DIR=folder qevo-gpu devices --json 2>&1 >/dev/null", 0,
               "note: no backend is in folder, as");
  assert_shell("QEVO_BACKEND_DIR=broken qevo-gpu train qat --backend cpu 2>&1", 1, "broken/libqevo-cpu.so: ");
  assert_non_null(strstr(out, "; 'qevo-gpu devices' lists those that are"));
}

/* A run's folder stands for its best model. */
static void test_folders_as_models(void **state) {
  (void)state;
  assert_shell("qevo-gpu eval done " SUBSET "--json 2>notes; cat notes", 0,
               "note: done is a folder: best.safetensors in it is taken");
  assert_true(strncmp(out, "{\"top1\":", 8) == 0);
  assert_shell("mkfifo pipe; cat done/best.safetensors >pipe & qevo-gpu eval pipe " SUBSET, 0, "top-1 ");
  assert_shell("qevo-gpu inspect done 2>/dev/null", 0, "done/best.safetensors: model, ");
  assert_shell("qevo-gpu export done --out done.network 2>/dev/null", 0, "written to done.network");
  assert_shell("qevo-gpu train qat " MLP
               "--init done --epochs 1 --out further >/dev/null 2>&1; cat further/config.yaml",
               0, "init: done/best.safetensors");
  assert_shell("echo x w3 >folder/bits.txt; qevo-gpu train qat " MLP "--bits-file folder 2>&1; rm folder/bits.txt", 0,
               "folder/bits.txt:1: ");
}

/* Of a resumed run its own config holds: what an edited recipe says otherwise is told, unless the command line says it.
 * A run without a folder keeps nothing, which is told. */
static void test_notes(void **state) {
  (void)state;
  static const char note[] = "note: done/config.yaml wins over the recipe, which differs: epochs 2, not 3, rate auto, "
                             "not 0.07; to change a resumed run give options beside the recipe\n";
  assert_shell("sed 's/epochs: 2/epochs: 3/' own.yaml >edited.yaml; echo 'rate: 0.07' >>edited.yaml; "
               "qevo-gpu train edited.yaml --resume --out done 2>&1",
               0, note);
  assert_non_null(strstr(out, "resumed after epoch 2 of qat, its last"));
  assert_shell("qevo-gpu train edited.yaml --resume --out done --epochs 2 --rate auto --dry-run 2>&1", 0, "epochs: 2");
  assert_null(strstr(out, "wins over"));
  assert_shell("qevo-gpu train own.yaml --resume --out done --dry-run 2>&1", 0, "epochs: 2");
  assert_null(strstr(out, "wins over"));
  assert_shell(
      "cp done/best.safetensors start.safetensors; qevo-gpu train qat " MLP "--init start.safetensors --epochs "
      "1 --out begun >/dev/null 2>&1; rm start.safetensors; qevo-gpu train --resume --out begun --epochs 2 2>&1",
      0, "note: --init start.safetensors is gone; the run goes on from its checkpoint, which needs it no more");
  assert_non_null(strstr(out, "resumed after epoch 1 of qat"));
  assert_shell("qevo-gpu train own.yaml --epochs 1 --teacher nowhere --schedule step --warmup 3 2>&1", 0,
               "note: without --out nothing is kept");
  assert_non_null(strstr(out, "note: nothing learns from --teacher without --distill frozen or joint"));
  assert_non_null(strstr(out, "note: --schedule step has no --milestones: the rate stays as it is"));
  assert_non_null(strstr(out, "note: --warmup 3: the rate rises through all 1 epochs and never falls"));
}

/* Options of other methods, or of stages that do not run, are told; those of a config file may be there for others. */
static void test_notes_of_no_effect(void **state) {
  (void)state;
  assert_shell("qevo-gpu train own.yaml --dry-run --sqwa-captures 3 --budget 5 --rate 0 2>&1 >/dev/null", 0,
               "note: --sqwa-captures has no effect on the method qat\n"
               "note: --budget has no effect on the method qat\n"
               "note: --rate 0: nothing but batch norm's averages will change\n");
  assert_shell(
      "echo 'sqwa-captures: 3' >more.yaml; qevo-gpu train own.yaml --dry-run --config more.yaml 2>&1 >/dev/null", 0,
      "");
  assert_null(strstr(out, "no effect"));
  assert_shell("qevo-gpu train coevolution " MLP "--init done --stages calibrate,local --eda-batch 4 --local-images 64 "
               "--epochs 3 --seed 2 --dry-run 2>&1 >/dev/null",
               0, "note: --epochs has no effect on the method coevolution\n");
  assert_non_null(strstr(out, "note: --eda-batch has no effect: --stages calibrate,local has no stage eda\n"));
  assert_null(strstr(out, "--local-images has"));
  assert_null(strstr(out, "--seed has"));
}

static void test_notes_of_steps(void **state) {
  (void)state;
  assert_shell("qevo-gpu train two.yaml --out both >/dev/null 2>&1; sed 's/0.02/0.03/' two.yaml >edited.yaml; "
               "qevo-gpu train edited.yaml --resume --out both 2>&1",
               0, "note: both/config.yaml wins over the recipe, which differs: more.rate 0.02, not 0.03; ");
  assert_shell("qevo-gpu train edited.yaml --resume --out both --set more.rate=0.02 2>&1", 0, "finished before");
  assert_null(strstr(out, "wins over"));
}

/* A reader that goes away early is no matter for a message, and no signal kills the program. */
static void test_broken_pipe(void **state) {
  (void)state;
  assert_shell("{ sleep 0.3; qevo-gpu man train 2>errors; echo $? >code; } | true; cat code errors", 0, "1\n");
  assert_string_equal(out, "1\n");
  assert_shell("{ sleep 0.3; qevo-gpu train qat " MLP "--float-epochs 0 --epochs 1 --out piped --json 2>&1 >result; "
               "echo $? >code; } | true; cat code; ls piped",
               0, "0\n");
  assert_non_null(strstr(out, "best.safetensors")); /* the log was gone, the run was not */
}

/* A run that fails for the numbers in it; one whose standard output is closed does not write it into its files. */
static void test_failed_runs(void **state) {
  (void)state;
  assert_shell("qevo-gpu train qat " MLP "--float-epochs 0 --rate 1e9 2>&1 >/dev/null", 1, "lower the learning rate");
  assert_shell("qevo-gpu train qat " MLP "--float-epochs 0 --epochs 1 --out closed 2>/dev/null >&-; echo $?; "
               "qevo-gpu eval closed/best.safetensors " SUBSET "--json 2>/dev/null",
               0, "1\n{\"top1\":");
}

/* ---- --json: one object on stdout and nothing else ---- */

static void test_json(void **state) {
  (void)state;
  static const char *const commands[] = {
      "train --list --json",
      "inspect model.safetensors --json",
      "inspect w4a4.network --json",
      "eval w4a4.network " SUBSET "--json",
      "train qat " MLP "--float-epochs 0 --epochs 1 --json",
      "train qat " MLP "--dry-run --json",
      "train qat " MLP "--find-rate --json",
  };
  char command[512];
  for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
    snprintf(command, sizeof command, "qevo-gpu %s 2>/dev/null", commands[i]);
    assert_shell(command, 0, "{");
    cJSON *object = cJSON_ParseWithOpts(out, NULL, 0);
    if (!cJSON_IsObject(object) || strchr(out, '\n') != out + strlen(out) - 1)
      fail_msg("%s: not one object in one line:\n%s", commands[i], out);
    cJSON_Delete(object);
  }
}

/* ---- interrupted: exit code 130 ---- */

static void test_interrupted(void **state) {
  (void)state;
  assert_shell("qevo-gpu train qat " MLP "--float-epochs 0 --epochs 100000 --out stopped 2>log & pid=$!; "
               "until [ -s stopped/metrics.jsonl ]; do sleep 0.05; done; kill -INT $pid; wait $pid; echo $?; cat log",
               0, "130\n");
  assert_non_null(strstr(out, "--resume"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_wrong_turns),
      cmocka_unit_test(test_output_that_fails),
      cmocka_unit_test(test_limits),
      cmocka_unit_test(test_missing_backends),
      cmocka_unit_test(test_folders_as_models),
      cmocka_unit_test(test_notes),
      cmocka_unit_test(test_notes_of_no_effect),
      cmocka_unit_test(test_notes_of_steps),
      cmocka_unit_test(test_broken_pipe),
      cmocka_unit_test(test_failed_runs),
      cmocka_unit_test(test_json),
      cmocka_unit_test(test_interrupted),
  };
  return cmocka_run_group_tests(tests, open_folder, remove_folder);
}
