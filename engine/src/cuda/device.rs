//! An open device: context, stream, memory, modules, and the one unsafe launch.

use std::collections::HashMap;
use std::ffi::{CString, c_void};

use cudarc::driver::result as cu;
use cudarc::driver::sys;

use super::Settings;
use super::compile::{Architecture, Compiler};
use super::error::DeviceError;
use super::launch::Launch;
use super::library;
use super::page::{Page, Variant};

/// Facts of a card that launchers and reports need.
#[derive(Clone, Debug, PartialEq)]
pub struct Card {
    /// Its index for the driver.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// Compute capability.
    pub compute: (u32, u32),
    /// Multiprocessors.
    pub multiprocessors: u32,
    /// Level-2 cache, bytes.
    pub l2_bytes: u64,
    /// Most dynamic shared memory a block, bytes.
    pub shared_bytes_max: u32,
    /// Memory, bytes.
    pub memory_bytes: u64,
    /// CUDA version of the driver, as 1000·major + 10·minor.
    pub driver: i32,
}

impl Card {
    /// A card to lower for where there is none: the H200's figures.
    pub fn h200() -> Card {
        Card {
            index: 0,
            name: "NVIDIA H200".to_owned(),
            compute: (9, 0),
            multiprocessors: 132,
            l2_bytes: 60 << 20,
            shared_bytes_max: 227 << 10,
            memory_bytes: 150_754_820_096,
            driver: 13000,
        }
    }
}

/// Device memory, freed on drop.
#[derive(Debug)]
pub struct Memory {
    pointer: u64,
    bytes: usize,
}

impl Memory {
    /// The device address.
    pub fn address(&self) -> u64 {
        self.pointer
    }

    /// How many bytes there are.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: `pointer` came from cuMemAlloc and is freed once. After a sticky error the
        // driver refuses; the process is about to end then.
        let _ = unsafe { cu::free_sync(self.pointer) };
    }
}

/// A captured sequence of launches.
#[derive(Debug)]
pub struct Graph {
    graph: sys::CUgraph,
    exec: sys::CUgraphExec,
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: both handles came from the driver and are destroyed once.
        unsafe {
            let _ = cu::graph::exec_destroy(self.exec);
            let _ = cu::graph::destroy(self.graph);
        }
    }
}

/// A device in use by this thread.
#[derive(Debug)]
pub struct Device {
    card: Card,
    device: sys::CUdevice,
    stream: sys::CUstream,
    compiler: Compiler,
    architecture: Architecture,
    modules: HashMap<(&'static str, Variant), sys::CUmodule>,
    functions: HashMap<(&'static str, Variant, String), sys::CUfunction>,
}

impl Device {
    /// Opens device `index`: driver, context, stream, compiler.
    ///
    /// # Errors
    /// What is missing, by name; never a panic.
    pub fn open(settings: &Settings, index: usize) -> Result<Device, DeviceError> {
        if !library::driver_is_present() {
            return Err(DeviceError::NoDriver);
        }
        cu::init().map_err(DeviceError::driver("starting the driver"))?;
        let count = cu::device::get_count().map_err(DeviceError::driver("counting devices"))?;
        let count = usize::try_from(count).unwrap_or(0);
        if index >= count {
            return Err(DeviceError::NoDevice { index, count });
        }
        let device = cu::device::get(i32::try_from(index).unwrap_or(i32::MAX))
            .map_err(DeviceError::driver("getting the device"))?;
        let card = facts(device, index).map_err(DeviceError::driver("reading device facts"))?;
        let architecture = Architecture::of_device(card.compute.0, card.compute.1);
        let compiler = Compiler::open(settings, architecture)?;
        // SAFETY: `device` is valid; the context is released on drop.
        let context = unsafe { cu::primary_ctx::retain(device) }
            .map_err(DeviceError::driver("making a context"))?;
        // SAFETY: the context was just retained.
        unsafe { cu::ctx::set_current(context) }
            .map_err(DeviceError::driver("making the context current"))?;
        let stream = cu::stream::create(cu::stream::StreamKind::NonBlocking)
            .map_err(DeviceError::driver("making a stream"))?;
        Ok(Device {
            card,
            device,
            stream,
            compiler,
            architecture,
            modules: HashMap::new(),
            functions: HashMap::new(),
        })
    }

    pub(super) fn stream(&self) -> sys::CUstream {
        self.stream
    }

    /// Facts of the card.
    pub fn card(&self) -> &Card {
        &self.card
    }

    /// What pages are compiled for.
    pub fn architecture(&self) -> Architecture {
        self.architecture
    }

    /// The NVRTC version, major and minor.
    pub fn nvrtc_version(&self) -> (i32, i32) {
        self.compiler.version()
    }

    /// Free and total bytes, as the driver counts them.
    ///
    /// # Errors
    /// The driver's.
    pub fn memory_info(&self) -> Result<(usize, usize), DeviceError> {
        cu::mem_get_info().map_err(DeviceError::driver("reading free memory"))
    }

    /// Compiles and resolves everything that `launches` need; nothing is looked up later.
    ///
    /// # Errors
    /// Text that does not compile, an entry that is not there.
    pub fn prepare(&mut self, launches: &[Launch]) -> Result<(), DeviceError> {
        let mut missing: Vec<(&'static Page, Variant)> = Vec::new();
        for l in launches {
            let known = self.modules.contains_key(&(l.page.name, l.variant))
                || missing.iter().any(|(p, v)| p.name == l.page.name && *v == l.variant);
            if !known {
                missing.push((l.page, l.variant));
            }
        }
        self.load(&missing)?;
        for l in launches {
            self.resolve(l)?;
        }
        Ok(())
    }

    /// Compiles every page of every op into the cache, in parallel, so that no case waits for the
    /// compiler. Without a cache there is nothing to gain, and nothing is done.
    ///
    /// # Errors
    /// The first page that does not compile.
    pub fn warm(&self, pages: &[(&'static Page, Variant)]) -> Result<(), DeviceError> {
        if !self.compiler.has_cache() {
            return Ok(());
        }
        self.compiler.all(pages).map(drop)
    }

    /// Compiles pages in parallel and loads them.
    ///
    /// # Errors
    /// Text that does not compile, or a module that the driver refuses.
    pub fn load(&mut self, pages: &[(&'static Page, Variant)]) -> Result<(), DeviceError> {
        let cubins = self.compiler.all(pages)?;
        for ((page, variant), cubin) in pages.iter().zip(cubins) {
            // SAFETY: a whole cubin for this device, alive during the call.
            let module = unsafe { cu::module::load_data(cubin.as_ptr().cast::<c_void>()) }
                .map_err(DeviceError::driver("loading a module"))?;
            self.modules.insert((page.name, *variant), module);
        }
        Ok(())
    }

    fn resolve(&mut self, launch: &Launch) -> Result<(), DeviceError> {
        let key = (launch.page.name, launch.variant, launch.entry.clone());
        if let Some(&function) = self.functions.get(&key) {
            return self.allow_shared(function, launch.shared);
        }
        let missing = || DeviceError::Entry {
            page: launch.page.name.to_owned(),
            entry: launch.entry.clone(),
        };
        let name = CString::new(launch.entry.as_str()).map_err(|_| missing())?;
        let module = self.modules[&(launch.page.name, launch.variant)];
        // SAFETY: the module is loaded and never unloaded.
        let function = unsafe { cu::module::get_function(module, name) }.map_err(|_| missing())?;
        self.allow_shared(function, launch.shared)?;
        self.functions.insert(key, function);
        Ok(())
    }

    fn allow_shared(&self, function: sys::CUfunction, bytes: u32) -> Result<(), DeviceError> {
        if bytes <= 48 << 10 {
            return Ok(());
        }
        let attribute =
            sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
        // SAFETY: the function is of a loaded module.
        unsafe { cu::function::set_function_attribute(function, attribute, bytes) }
            .map_err(DeviceError::driver("asking for shared memory"))
    }

    /// Takes `bytes` of device memory.
    ///
    /// # Errors
    /// Out of memory, which is not sticky.
    pub fn allocate(&self, bytes: usize) -> Result<Memory, DeviceError> {
        // SAFETY: a plain allocation; freed by `Memory`.
        let pointer = unsafe { cu::malloc_sync(bytes.max(1)) }
            .map_err(DeviceError::driver("taking device memory"))?;
        Ok(Memory { pointer, bytes })
    }

    /// Copies bytes to the device and waits.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// If they do not fit at `offset`.
    pub fn upload(&self, to: &Memory, offset: usize, bytes: &[u8]) -> Result<(), DeviceError> {
        assert!(offset + bytes.len() <= to.bytes, "upload outside of its memory");
        if bytes.is_empty() {
            return Ok(());
        }
        // SAFETY: the range was checked; the copy has ended when the call returns.
        unsafe {
            cu::memcpy_htod_async(to.pointer + offset as u64, bytes, self.stream)
                .map_err(DeviceError::driver("copying to the device"))?;
        }
        self.synchronize()
    }

    /// Sets bytes of device memory to zero and waits.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// If there are not so many at `offset`.
    pub fn clear(&self, memory: &Memory, offset: usize, bytes: usize) -> Result<(), DeviceError> {
        assert!(offset + bytes <= memory.bytes, "clearing outside of its memory");
        // SAFETY: the range was checked; the work has ended when the call returns.
        unsafe { cu::memset_d8_async(memory.pointer + offset as u64, 0, bytes, self.stream) }
            .map_err(DeviceError::driver("clearing device memory"))?;
        self.synchronize()
    }

    /// Copies the first `bytes` of one memory into another and waits.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// If either has fewer.
    pub fn copy(&self, to: &Memory, from: &Memory, bytes: usize) -> Result<(), DeviceError> {
        assert!(bytes <= to.bytes && bytes <= from.bytes, "copying outside of its memory");
        // SAFETY: both ranges were checked; the work has ended when the call returns.
        unsafe { cu::memcpy_dtod_async(to.pointer, from.pointer, bytes, self.stream) }
            .map_err(DeviceError::driver("copying on the device"))?;
        self.synchronize()
    }

    /// Copies bytes from the device and waits.
    ///
    /// # Errors
    /// The driver's, also those of kernels that ran before.
    ///
    /// # Panics
    /// If there are not so many at `offset`.
    pub fn download(
        &self,
        from: &Memory,
        offset: usize,
        bytes: &mut [u8],
    ) -> Result<(), DeviceError> {
        assert!(offset + bytes.len() <= from.bytes, "download outside of its memory");
        if bytes.is_empty() {
            return self.synchronize();
        }
        // SAFETY: the range was checked; the copy has ended before this function returns.
        unsafe {
            cu::memcpy_dtoh_async(bytes, from.pointer + offset as u64, self.stream)
                .map_err(DeviceError::driver("copying from the device"))?;
        }
        self.synchronize()
    }

    /// Performs a launch whose slots have addresses. The one place where kernels start.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// If the launch was not prepared, or an address is of memory that no longer lives: callers
    /// hold the [`Memory`] of every slot until the next synchronisation.
    pub fn launch(
        &self,
        launch: &Launch,
        address: impl FnMut(&str) -> u64,
    ) -> Result<(), DeviceError> {
        let key = (launch.page.name, launch.variant, launch.entry.clone());
        let function = *self.functions.get(&key).expect("a launch is prepared before it is made");
        let mut arguments = launch.args.bytes(address);
        let mut parameters = [arguments.as_mut_ptr().cast::<c_void>()];
        // SAFETY: an all-zero attribute is a valid value of this C struct.
        let mut attribute: sys::CUlaunchAttribute = unsafe { std::mem::zeroed() };
        attribute.id =
            sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
        attribute.value.programmaticStreamSerializationAllowed = 1;
        let config = sys::CUlaunchConfig {
            gridDimX: launch.grid[0],
            gridDimY: launch.grid[1],
            gridDimZ: launch.grid[2],
            blockDimX: launch.block,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: launch.shared,
            hStream: self.stream,
            attrs: &raw mut attribute,
            numAttrs: u32::from(launch.overlap),
        };
        // SAFETY: a `Launch` is made only by an op's launcher after its shape check, its argument
        // struct was held against the page's when the page was compiled, and every address is of
        // memory that the caller keeps.
        unsafe {
            sys::cuLaunchKernelEx(
                &raw const config,
                function,
                parameters.as_mut_ptr(),
                std::ptr::null_mut(),
            )
        }
        .result()
        .map_err(DeviceError::driver("launching a kernel"))
    }

    /// Waits until all work is done.
    ///
    /// # Errors
    /// Those of the kernels that ran.
    pub fn synchronize(&self) -> Result<(), DeviceError> {
        // SAFETY: the stream lives as long as the device.
        unsafe { cu::stream::synchronize(self.stream) }
            .map_err(DeviceError::driver("waiting for the device"))
    }

    /// Records what `work` launches into a graph instead of running it.
    ///
    /// # Errors
    /// Those of `work`, and the driver's.
    pub fn capture(
        &self,
        work: impl FnOnce(&Device) -> Result<(), DeviceError>,
    ) -> Result<Graph, DeviceError> {
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream is ours and not capturing.
        unsafe { cu::stream::begin_capture(self.stream, mode) }
            .map_err(DeviceError::driver("beginning a capture"))?;
        let done = work(self);
        // SAFETY: ends the capture that was begun above, also after an error.
        let graph = unsafe { cu::stream::end_capture(self.stream) }
            .map_err(DeviceError::driver("ending a capture"));
        done?;
        let graph = graph?;
        // SAFETY: the graph was just captured; no flags.
        let exec = unsafe { cu::graph::instantiate(graph, sys::CUgraphInstantiate_flags_enum(0)) }
            .map_err(DeviceError::driver("instantiating a graph"))?;
        Ok(Graph { graph, exec })
    }

    /// Enqueues a captured graph.
    ///
    /// # Errors
    /// The driver's.
    pub fn replay(&self, graph: &Graph) -> Result<(), DeviceError> {
        // SAFETY: the graph and the stream live.
        unsafe { cu::graph::launch(graph.exec, self.stream) }
            .map_err(DeviceError::driver("replaying a graph"))
    }

    /// Microseconds that `work` takes on the device, between two events.
    ///
    /// # Errors
    /// Those of `work`, and the driver's.
    pub fn time_us(
        &self,
        work: impl FnOnce(&Device) -> Result<(), DeviceError>,
    ) -> Result<f64, DeviceError> {
        let doing = "timing";
        let flags = sys::CUevent_flags::CU_EVENT_DEFAULT;
        let start = cu::event::create(flags).map_err(DeviceError::driver(doing))?;
        let end = cu::event::create(flags).map_err(DeviceError::driver(doing))?;
        // SAFETY: both events and the stream are ours; the events are destroyed once, below.
        let measured = unsafe {
            cu::event::record(start, self.stream)
                .map_err(DeviceError::driver(doing))
                .and_then(|()| work(self))
                .and_then(|()| {
                    cu::event::record(end, self.stream).map_err(DeviceError::driver(doing))
                })
                .and_then(|()| self.synchronize())
                .and_then(|()| cu::event::elapsed(start, end).map_err(DeviceError::driver(doing)))
        };
        // SAFETY: created above, destroyed once.
        unsafe {
            let _ = cu::event::destroy(start);
            let _ = cu::event::destroy(end);
        }
        measured.map(|ms| f64::from(ms) * 1000.0)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: the stream and the context are ours and are given back once.
        unsafe {
            let _ = cu::stream::destroy(self.stream);
            let _ = cu::primary_ctx::release(self.device);
        }
    }
}

fn facts(device: sys::CUdevice, index: usize) -> Result<Card, cudarc::driver::DriverError> {
    use sys::CUdevice_attribute_enum as A;
    // SAFETY: the device is valid after cuInit.
    let get = |a| unsafe { cu::device::get_attribute(device, a) };
    let unsigned = |x: i32| u32::try_from(x).unwrap_or(0);
    let mut driver = 0;
    // SAFETY: a live int.
    unsafe { sys::cuDriverGetVersion(&mut driver).result()? };
    Ok(Card {
        index,
        name: cu::device::get_name(device)?,
        compute: (
            unsigned(get(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?),
            unsigned(get(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?),
        ),
        multiprocessors: unsigned(get(A::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?),
        l2_bytes: u64::from(unsigned(get(A::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)?)),
        shared_bytes_max: unsigned(get(A::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?),
        // SAFETY: as above.
        memory_bytes: unsafe { cu::device::total_mem(device)? } as u64,
        driver,
    })
}
