//! Pickles whose callables scanners did not know, or did not see.

use super::files::{call, dangerous, global, payload, pickle, text};

/// A test for each id: the callable is named and called, with a word that would be code, a command
/// or a path.
macro_rules! gadgets {
    ($($id:ident: $($module:literal $name:literal),+;)*) => {
        $(#[test]
        fn $id() {
            for (module, name) in [$(($module, $name)),+] {
                let made = call(&global(module, name), &[&text("print('word')")]);
                dangerous("model.pkl", &pickle(&made), "");
                // What is thrown away has been called all the same.
                dangerous("model.bin", &pickle(&[&made[..], b"0N"].concat()), "");
            }
        })*
    };
}

gadgets! {
    // picklescan: gadgets in PyTorch.
    ghsa_4r9r_ch6f_vxmx: "torch.utils.bottleneck.__main__" "run_cprofile";
    ghsa_4whj_rm5r_c2v8: "torch.utils.bottleneck.__main__" "run_autograd_prof";
    ghsa_86cj_95qr_2p4f: "torch._dynamo.guards" "GuardBuilder.get";
    ghsa_f4x7_rfwp_v3xw: "torch.fx.experimental.symbolic_shapes" "ShapeEnv.evaluate_guards_expression";
    ghsa_f745_w6jp_hpxx: "torch.utils.collect_env" "run";
    ghsa_jhph_76pp_mggw: "torch.utils.collect_env" "run_and_read_all";
    ghsa_h3qp_7fh3_f8h4: "torch.utils.data.datapipes.utils.decoder" "basichandlers";
    ghsa_vr7h_p6mm_wpmh: "torch.jit.unsupported_tensor_ops" "execWrapper";
    ghsa_vv6j_3g6g_2pvj: "torch.utils._config_module" "ConfigModule.load_config";
    // picklescan: profilers, tracers, interpreters of Python's own.
    ghsa_5qwp_399c_mjwf: "trace" "Trace.run";
    ghsa_g344_hcph_8vgg: "trace" "Trace.runctx";
    ghsa_x696_vm39_cp64: "profile" "Profile.run";
    ghsa_6vqj_c2q5_j97w: "profile" "Profile.runctx";
    ghsa_9w88_8rmg_7g2p: "cProfile" "runctx";
    ghsa_49gj_c84q_6qm9: "cProfile" "run";
    ghsa_7wx9_6375_f5wh: "profile" "run";
    ghsa_cj3c_v495_4xqh: "code" "InteractiveInterpreter.runcode";
    ghsa_fqq6_7vqf_w3fg: "doctest" "debug_script";
    ghsa_xp4f_hrf8_rxw7: "ensurepip" "_run_pip";
    ghsa_f54q_57x4_jg88: "lib2to3.pgen2.grammar" "Grammar.loads";
    ghsa_p9w7_82w4_7q8m: "lib2to3.pgen2.pgen" "ParserGenerator.make_label";
    ghsa_q77w_mwjj_7mqx: "asyncio.unix_events" "_UnixSubprocessTransport._start";
    ghsa_m273_6v24_x4m4: "distutils.file_util" "write_file";
    ghsa_4675_36f9_wf6r: "ctypes" "CDLL";
    ghsa_vqmv_47xg_9wpr: "pty" "spawn";
    ghsa_r8g5_cgf2_4m4m: "numpy.f2py.crackfortran" "getlincoef";
    ghsa_vvpj_8cmc_gx39: "pkgutil" "resolve_name";
    ghsa_84r2_jw7c_4r5q: "pydoc" "locate", "operator" "methodcaller";
    ghsa_955r_x9j8_7rhh: "_operator" "methodcaller";
    ghsa_46h3_79wf_xr6c: "_operator" "attrgetter";
    // picklescan: idlelib.
    ghsa_3vg9_h568_4w9m: "idlelib.debugobj" "ObjectTreeItem.SetText";
    ghsa_6w4w_5w54_rjvr: "idlelib.autocomplete" "AutoComplete.get_entity";
    ghsa_7cq8_mj8x_j263: "idlelib.autocomplete" "AutoComplete.fetch_completions";
    ghsa_8r4j_24qv_fmq9: "idlelib.calltip" "Calltip.fetch_tip";
    ghsa_9xph_j2h6_g47v: "idlelib.calltip" "get_entity";
    ghsa_m869_42cg_3xwr: "idlelib.run" "Executive.runcode";
    ghsa_j343_8v2j_ff7w: "idlelib.pyshell" "ModifiedInterpreter.runcommand";
    ghsa_3gf5_cxq9_w223: "idlelib.pyshell" "ModifiedInterpreter.runcode";
    // One id for six ways to start a process.
    ghsa_g38g_8gr9_h9xp: "uuid" "_get_command_stdout", "_osx_support" "_read_output",
        "_aix_support" "_read_cmd_output", "imaplib" "IMAP4_stream", "_pyrepl.pager" "pipe_pager",
        "test.support.script_helper" "assert_python_ok";
    // picklescan: a module below one that is listed.
    ghsa_f7qq_56ww_84cr: "asyncio.unix_events" "_UnixSubprocessTransport._start", "idlelib.run" "exit";
    // picklescan: pip.
    cve_2025_1716: "pip" "main", "pip._internal" "main", "pip._internal.cli.main" "main";
    // fickling: callables its list lacked.
    ghsa_r7v6_mfhq_g3m2: "pty" "spawn";
    ghsa_565g_hwwr_4pp3: "marshal" "loads", "types" "FunctionType";
    ghsa_wfq2_52f7_7qvj: "runpy" "run_path", "runpy" "run_module";
    ghsa_p523_jq9w_64x9: "cProfile" "run";
    ghsa_5hvc_6wx8_mvv4: "ctypes" "CDLL", "pydoc" "locate";
    ghsa_q5qq_mvfm_j35x: "importlib" "import_module", "code" "InteractiveInterpreter",
        "multiprocessing.util" "spawnv_passfds", "runpy" "run_path";
    ghsa_h4rm_mm56_xf63: "builtins" "__import__";
    ghsa_5hwf_rc88_82xm: "uuid" "_get_command_stdout", "_aix_support" "_read_cmd_output",
        "_osx_support" "_find_build_tool";
    ghsa_6ggj_6f2q_f7mx: "_interpreters" "create", "_xxsubinterpreters" "create";
    ghsa_5j3x_jp52_966f: "pathlib" "os.system", "torch.serialization" "os.system",
        "collections" "_sys.modules";
}

/// picklescan: `STRING` opcodes before `STACK_GLOBAL` made it give up.
#[test]
fn ghsa_9gvj_pp9x_gcfr() {
    dangerous(
        "model.pkl",
        b"S'os'\nS'system'\n\x93S'true'\n\x85R.",
        "process",
    );
}

/// fickling: a call by `OBJ` whose result is thrown away was not seen.
#[test]
fn ghsa_mxhj_88fx_4pcv() {
    let made = [
        &b"("[..],
        &global("smtplib", "SMTP"),
        &text("127.0.0.1"),
        b"o0N",
    ]
    .concat();
    dangerous("model.pkl", &pickle(&made), "");
}

/// fickling: what its list of harmless names allowed hid what its other list named.
#[test]
fn ghsa_cffv_grgg_g429() {
    let parse = call(&global("ast", "parse"), &[&text("1")]);
    let system = call(&global("os", "system"), &[&text("true")]);
    dangerous(
        "model.pkl",
        &pickle(&[&parse[..], b"0", &system].concat()),
        "process",
    );
}

/// numpy: objects in an array are a pickle.
#[test]
fn cve_2019_6446() {
    let header = "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }";
    let padded = format!("{header:<117}\n");
    let len = (padded.len() as u16).to_le_bytes();
    let file = [&b"\x93NUMPY\x01\0"[..], &len, padded.as_bytes(), &payload()].concat();
    for name in ["a.npy", "a.bin"] {
        dangerous(name, &file, "process");
    }
}
