/* Switching stacks: a few instructions on x86-64 and aarch64, ucontext (a system call a switch) elsewhere. */
#include "tests/cuda_emulator/fiber.h"

#include <cstdint>
#include <cstring>

#if defined(__x86_64__) && !defined(EMULATOR_UCONTEXT)

/* What the caller's callers expect to be kept: rbx, rbp, r12..r15. The floating-point control words never change. */
asm(R"(
.text
.globl fiber_switch
.hidden fiber_switch
.type fiber_switch, @function
fiber_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size fiber_switch, .-fiber_switch
)");

void *fiber_prepare(unsigned char *top, void (*entry)()) {
  enum { SAVED = 6 };
  auto end = reinterpret_cast<uintptr_t>(top) & ~uintptr_t{15};
  void **stack = reinterpret_cast<void **>(end) -
                 1; /* a return address that is never used: entry() finds the stack as if called */
  *stack = nullptr;
  *--stack = reinterpret_cast<void *>(entry);
  stack -= SAVED;
  memset(stack, 0, SAVED * sizeof *stack);
  return stack;
}

#elif defined(__aarch64__) && !defined(EMULATOR_UCONTEXT)

asm(R"(
.text
.globl fiber_switch
.hidden fiber_switch
.type fiber_switch, %function
fiber_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size fiber_switch, .-fiber_switch
)");

void *fiber_prepare(unsigned char *top, void (*entry)()) {
  enum { SAVED = 20, LINK = 11 }; /* x30's place */
  auto end = reinterpret_cast<uintptr_t>(top) & ~uintptr_t{15};
  void **stack = reinterpret_cast<void **>(end) - SAVED;
  memset(stack, 0, SAVED * sizeof *stack);
  stack[LINK] = reinterpret_cast<void *>(entry);
  return stack;
}

#else

#include <ucontext.h>

extern "C" void fiber_switch(void **save, void *to) {
  ucontext_t here;
  *save = &here;
  swapcontext(&here, static_cast<ucontext_t *>(to));
}

void *fiber_prepare(unsigned char *top, void (*entry)()) {
  enum { STACK = 64 << 10 }; /* of which the context itself takes the last part */
  auto place = (reinterpret_cast<uintptr_t>(top) - sizeof(ucontext_t)) & ~uintptr_t{63};
  auto *context = reinterpret_cast<ucontext_t *>(place);
  memset(context, 0, sizeof *context);
  getcontext(context);
  context->uc_stack.ss_sp = reinterpret_cast<void *>(place - STACK);
  context->uc_stack.ss_size = STACK;
  context->uc_link = nullptr;
  makecontext(context, entry, 0);
  return context;
}

#endif
