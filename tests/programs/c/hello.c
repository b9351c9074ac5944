/* Prints what a program is started with: arguments, environment, auxiliary vector. Exit status: number of arguments. */
#include <elf.h>
#include <stdio.h>
#include <sys/auxv.h>

int main(int argc, char **argv, char **envp) {
    printf("hello, %d argument%s\n", argc, argc == 1 ? "" : "s");
    for (int i = 0; i < argc; i++)
        printf("argv[%d] = \"%s\"\n", i, argv[i]);
    if (argv[argc] != 0)
        return 99;
    char **env = envp;
    for (; *env; env++)
        printf("env %s\n", *env);
    Elf64_auxv_t *aux = (Elf64_auxv_t *)(env + 1);
    for (; aux->a_type != AT_NULL; aux++) {
        switch (aux->a_type) {
        case AT_PLATFORM:
        case AT_EXECFN:
            printf("aux %lu = \"%s\"\n", aux->a_type, (char *)aux->a_un.a_val);
            break;
        default:
            printf("aux %lu = %#lx\n", aux->a_type, aux->a_un.a_val);
        }
    }
    printf("page size %lu\n", getauxval(AT_PAGESZ));
    return argc;
}
